"""Sampling by vLLM, for large batches on a GPU: the optional extra `vllm`.

vLLM has weights of its own: the frozen base is exported to it once, the adapter for each rollout. It is given token ids and the
image embeddings of the policy's own vision tower, so that nothing is prepared twice, and its prefix cache reads a prompt once for
all of its completions. It has its own random streams: the same seeds reproduce its completions, but not those of other engines.
"""

from __future__ import annotations

import importlib
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from fires_exp.config.model import SamplingConfig
from fires_exp.errors import ConfigError
from fires_exp.policy.adapters import save_adapter
from fires_exp.policy.completion import Completion, completion_of
from fires_exp.policy.policy import Policy
from fires_exp.prompts.processor import EncodedPrompt

# vLLM's share of the GPU memory, weights included; the rest is the trainer's
MEMORY_SHARE = 0.4
# frames per prompt that vLLM reserves space for; frames.max_frames has the same upper limit
MAX_IMAGES = 256


class VllmEngine:
    """A vLLM with one policy's base weights. Raises `ConfigError` if vLLM is not installed."""

    def __init__(self, policy: Policy) -> None:
        try:
            self._vllm: Any = importlib.import_module("vllm")
            self._lora: Any = importlib.import_module("vllm.lora.request")
        except ImportError:
            raise ConfigError(
                "engine=vllm: vLLM is not installed; on a machine with a GPU, pip install 'fires-exp[vllm]'; or engine=native"
            ) from None
        self._folder = Path(tempfile.mkdtemp(prefix="fires_exp_vllm_"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._rollouts = 0
        base = self._folder / "base"
        export_base(policy, base)
        config = policy.model.active_peft_config if isinstance(policy.model, PeftModel) else None
        self._llm = self._vllm.LLM(
            model=str(base),
            dtype=str(next(policy.qwen.parameters()).dtype).removeprefix("torch."),
            gpu_memory_utilization=MEMORY_SHARE,
            enable_prefix_caching=True,
            enable_mm_embeds=True,
            limit_mm_per_prompt={"image": MAX_IMAGES, "video": 0},
            logprobs_mode="processed_logprobs",  # after the temperature and without suppressed tokens, as in scoring
            generation_config="vllm",
            enable_lora=config is not None,
            max_lora_rank=max(8, config.r) if config is not None else 8,
        )
        self._allowed_ids = (~policy.suppressed_V).nonzero().squeeze(-1).tolist()

    def sample(
        self, policy: Policy, prompts: Sequence[EncodedPrompt], config: SamplingConfig, seeds: Sequence[Sequence[int]]
    ) -> list[list[Completion]]:
        """As `sample_completions`, for the engine's policy with the current weights of its adapter."""
        requests = [(_request(policy, prompt), seed) for prompt, group in zip(prompts, seeds, strict=True) for seed in group]
        parameters = [
            self._vllm.SamplingParams(
                temperature=config.temperature,
                top_p=config.top_p,
                max_tokens=config.max_new_tokens,
                seed=seed % 2**63,
                logprobs=0,  # of the sampled token alone
                allowed_token_ids=self._allowed_ids,
                stop_token_ids=[policy.eos_id],
                detokenize=False,
            )
            for _, seed in requests
        ]
        outputs = self._llm.generate(
            [prompt for prompt, _ in requests], parameters, lora_request=self._lora_request(policy), use_tqdm=False
        )
        completions = iter([_completion(policy, output.outputs[0]) for output in outputs])
        return [[next(completions) for _ in group] for group in seeds]

    def _lora_request(self, policy: Policy) -> Any:
        """The adapter with its current weights, under a new name and number, so that vLLM does not reuse the last one."""
        if not isinstance(policy.model, PeftModel):
            return None
        shutil.rmtree(self._adapter_folder, ignore_errors=True)
        self._rollouts += 1
        save_adapter(policy, self._adapter_folder)
        return self._lora.LoRARequest(f"rollout-{self._rollouts}", self._rollouts, str(self._adapter_folder))

    @property
    def _adapter_folder(self) -> Path:
        return self._folder / f"adapter_{self._rollouts}"


def _request(policy: Policy, prompt: EncodedPrompt) -> dict[str, Any]:
    """Ids with one placeholder per image, as vLLM expects them, and the image embeddings."""
    image_token_id = policy.processor.image_token_id
    ids = prompt.prompt_ids
    repeated = torch.cat([torch.zeros(1, dtype=torch.bool), (ids[1:] == image_token_id) & (ids[:-1] == image_token_id)])
    request: dict[str, Any] = {"prompt_token_ids": ids[~repeated].tolist()}
    encoded = policy.encode_images(prompt) if prompt.image_embeds is None else prompt
    if encoded.image_embeds is not None:
        images = {"image_embeds": encoded.image_embeds.cpu(), "image_grid_thw": prompt.image_grid_thw}
        request["multi_modal_data"] = {"image": images}
    return request


def _completion(policy: Policy, output: Any) -> Completion:
    ids = torch.tensor(list(output.token_ids))
    logprobs = torch.tensor([step[token].logprob for step, token in zip(output.logprobs, output.token_ids, strict=True)])
    return completion_of(policy, ids, logprobs)


def export_base(policy: Policy, folder: Path) -> None:
    """Write the frozen weights, without the adapter, and the processor in Hugging Face format."""
    weights: dict[str, Tensor] = {
        name.replace(".base_layer.", "."): value for name, value in policy.qwen.state_dict().items() if "lora_" not in name
    }
    policy.qwen.save_pretrained(folder, state_dict=weights)
    policy.processor.tokenizer.save_pretrained(folder)
    policy.processor.image_processor.save_pretrained(folder)
