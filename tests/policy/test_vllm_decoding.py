"""Requests to vLLM and completions from its outputs, with a fake that has the parts of its interface that are used."""

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from making import SAMPLING, face, make_example
from safetensors.torch import load_file
from transformers import Qwen2_5_VLForConditionalGeneration

from fires_exp.errors import ConfigError
from fires_exp.policy.adapters import add_adapter
from fires_exp.policy.sampling import sample_completions

VLLM = replace(SAMPLING, engine="vllm")


class FakeLLM:
    """vLLM's `LLM`: requests with an even index end after three tokens, the others at the limit."""

    def __init__(self, engines, **options):
        self.options = options
        self.calls = []
        engines.append(self)

    def generate(self, prompts, parameters, lora_request, use_tqdm):
        self.calls.append((prompts, parameters, lora_request))
        outputs = []
        for index, sampling in enumerate(parameters):
            ids = [100 + index, 200, *sampling.stop_token_ids] if index % 2 == 0 else [100 + index] * sampling.max_tokens
            logprobs = [{token: SimpleNamespace(logprob=-0.5 * step)} for step, token in enumerate(ids)]
            outputs.append(SimpleNamespace(outputs=[SimpleNamespace(token_ids=tuple(ids), logprobs=logprobs)]))
        return outputs


@pytest.fixture
def engines(monkeypatch):
    """The engines that were created."""
    engines = []
    package, lora = ModuleType("vllm"), ModuleType("vllm.lora.request")
    package.LLM = lambda **options: FakeLLM(engines, **options)
    package.SamplingParams = lambda **options: SimpleNamespace(**options)
    lora.LoRARequest = lambda name, number, path: SimpleNamespace(name=name, number=number, path=path)
    for name, module in {"vllm": package, "vllm.lora": ModuleType("vllm.lora"), "vllm.lora.request": lora}.items():
        monkeypatch.setitem(sys.modules, name, module)
    return engines


@pytest.fixture
def prompts(encoder):
    return [
        encoder.encode(make_example("first"), [[face("red"), face("blue")]]),
        encoder.encode(make_example("second"), [[]]),
    ]


def test_without_vllm_one_line_has_the_remedy(tiny, prompts, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigError, match=r"engine=vllm.*engine=native"):
        sample_completions(tiny, prompts, VLLM, [[1], [2]])


def test_completions_are_grouped_by_prompt_with_ids_log_probabilities_and_finish_reasons(tiny, prompts, engines):
    groups = sample_completions(tiny, prompts, VLLM, [[1, 2], [3, 4]])
    assert [[int(completion.ids[0]) for completion in group] for group in groups] == [[100, 101], [102, 103]]
    ended, truncated = groups[0]
    assert ended.ids.tolist() == [100, 200, tiny.eos_id]
    assert ended.logprobs.tolist() == [0.0, -0.5, -1.0]
    assert (ended.finish_reason, truncated.finish_reason) == ("stop", "length")
    assert len(truncated.ids) == VLLM.max_new_tokens


def test_the_requested_distribution_is_that_of_scoring(tiny, prompts, engines):
    sample_completions(tiny, prompts, VLLM, [[1, 2**63 + 5], [3, 4]])
    (engine,) = engines
    ((_, parameters, adapter),) = engine.calls
    assert adapter is None
    assert engine.options["logprobs_mode"] == "processed_logprobs"
    assert "trust_remote_code" not in engine.options
    assert [sampling.seed for sampling in parameters] == [1, 5, 3, 4]
    assert parameters[0].temperature == SAMPLING.temperature
    assert parameters[0].allowed_token_ids == (~tiny.suppressed_V).nonzero().squeeze(-1).tolist()


def test_an_image_is_one_placeholder_and_its_embeddings(tiny, prompts, engines):
    sample_completions(tiny, prompts, VLLM, [[1], [2]])
    (((with_images, text_only), _, _),) = engines[0].calls
    image_token_id, ids = tiny.processor.image_token_id, prompts[0].prompt_ids
    assert (ids == image_token_id).sum() > 2
    assert with_images["prompt_token_ids"].count(image_token_id) == 2
    assert [id for id in with_images["prompt_token_ids"] if id != image_token_id] == ids[ids != image_token_id].tolist()
    images = with_images["multi_modal_data"]["image"]
    torch.testing.assert_close(images["image_embeds"], tiny.encode_images(prompts[0]).image_embeds)
    assert torch.equal(images["image_grid_thw"], prompts[0].image_grid_thw)
    assert text_only == {"prompt_token_ids": prompts[1].prompt_ids.tolist()}


def test_the_base_is_written_once_and_the_adapter_for_each_rollout(tiny, prompts, lora, engines):
    bare = {name: value.clone() for name, value in tiny.qwen.state_dict().items()}
    add_adapter(tiny, lora, seed=0)
    sample_completions(tiny, prompts, VLLM, [[1], [2]])
    with torch.no_grad():
        next(parameter for name, parameter in tiny.named_parameters() if "lora_B" in name).fill_(0.5)
    sample_completions(tiny, prompts, VLLM, [[1], [2]])
    (engine,) = engines
    (_, _, first), (_, _, second) = engine.calls
    assert (first.number, second.number) == (1, 2)
    assert not Path(first.path).exists()
    assert any((value == 0.5).all() for value in load_file(f"{second.path}/adapter_model.safetensors").values())
    written = Qwen2_5_VLForConditionalGeneration.from_pretrained(engine.options["model"])
    for name, value in written.state_dict().items():
        assert torch.equal(value, bare[name])
