"""Sampling by vLLM, for fleets where one process samples for long batches: the optional extra `vllm`, on a GPU.

vLLM has weights of its own. The frozen base is written for it once, the adapter for each rollout. It gets token ids and what the
policy's own vision tower made of the pictures, so that nothing is prepared twice; its prefix cache reads a prompt once for all of
its completions. It draws from streams of its own: the same seeds give the same completions again, but not those of other engines.
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

# vLLM takes this share of the GPU's memory, weights included; the rest is the trainer's
MEMORY_SHARE = 0.4
# pictures a prompt that vLLM makes room for; frames.max_frames has the same upper end
MOST_PICTURES = 256


class VllmEngine:
    """A vLLM with one policy's base weights. Raises `ConfigError` where vLLM is not installed."""

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
        write_base(policy, base)
        config = policy.model.active_peft_config if isinstance(policy.model, PeftModel) else None
        self._llm = self._vllm.LLM(
            model=str(base),
            dtype=str(next(policy.qwen.parameters()).dtype).removeprefix("torch."),
            gpu_memory_utilization=MEMORY_SHARE,
            enable_prefix_caching=True,
            enable_mm_embeds=True,
            limit_mm_per_prompt={"image": MOST_PICTURES, "video": 0},
            logprobs_mode="processed_logprobs",  # after the temperature and without suppressed tokens, as scoring has them
            generation_config="vllm",
            enable_lora=config is not None,
            max_lora_rank=max(8, config.r) if config is not None else 8,
        )
        self._allowed = (~policy.suppressed_V).nonzero().squeeze(-1).tolist()

    def sample(
        self, policy: Policy, prompts: Sequence[EncodedPrompt], config: SamplingConfig, seeds: Sequence[Sequence[int]]
    ) -> list[list[Completion]]:
        """As `sample_completions`; the policy is the engine's, its adapter as it is now."""
        requests = [(_request(policy, prompt), seed) for prompt, group in zip(prompts, seeds, strict=True) for seed in group]
        parameters = [
            self._vllm.SamplingParams(
                temperature=config.temperature,
                top_p=config.top_p,
                max_tokens=config.max_new_tokens,
                seed=seed % 2**63,
                logprobs=0,  # the drawn token's alone
                allowed_token_ids=self._allowed,
                stop_token_ids=[policy.eos_id],
                detokenize=False,
            )
            for _, seed in requests
        ]
        outputs = self._llm.generate(
            [prompt for prompt, _ in requests], parameters, lora_request=self._adapter(policy), use_tqdm=False
        )
        found = iter([_completion(policy, output.outputs[0]) for output in outputs])
        return [[next(found) for _ in group] for group in seeds]

    def _adapter(self, policy: Policy) -> Any:
        """The adapter as it is now, under a name and a number that vLLM has not seen."""
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
    """Ids with one placeholder a picture, as vLLM wants them, and the pictures as the vision tower sees them."""
    image = policy.processor.image_token_id
    ids = prompt.prompt_ids
    repeated = torch.cat([torch.zeros(1, dtype=torch.bool), (ids[1:] == image) & (ids[:-1] == image)])
    request: dict[str, Any] = {"prompt_token_ids": ids[~repeated].tolist()}
    seen = policy.look(prompt) if prompt.picture_states is None else prompt
    if seen.picture_states is not None:
        pictures = {"image_embeds": seen.picture_states.cpu(), "image_grid_thw": prompt.image_grid_thw}
        request["multi_modal_data"] = {"image": pictures}
    return request


def _completion(policy: Policy, output: Any) -> Completion:
    ids = torch.tensor(list(output.token_ids))
    logprobs = torch.tensor([step[token].logprob for step, token in zip(output.logprobs, output.token_ids, strict=True)])
    return completion_of(policy, ids, logprobs)


def write_base(policy: Policy, folder: Path) -> None:
    """The frozen weights, without the adapter that lies over them, and the processor, in Hugging Face format."""
    weights: dict[str, Tensor] = {
        name.replace(".base_layer.", "."): value for name, value in policy.qwen.state_dict().items() if "lora_" not in name
    }
    policy.qwen.save_pretrained(folder, state_dict=weights)
    policy.processor.tokenizer.save_pretrained(folder)
    policy.processor.image_processor.save_pretrained(folder)
