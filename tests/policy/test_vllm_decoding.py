"""What vLLM is asked, and what is made of its answers. A stand-in with the parts of its interface that are used answers here."""

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


class StandIn:
    """vLLM's `LLM`: requests at even places end after three tokens, the others are cut off."""

    def __init__(self, made, **options):
        self.options = options
        self.asked = []
        made.append(self)

    def generate(self, prompts, parameters, lora_request, use_tqdm):
        self.asked.append((prompts, parameters, lora_request))
        outputs = []
        for place, one in enumerate(parameters):
            ids = [100 + place, 200, *one.stop_token_ids] if place % 2 == 0 else [100 + place] * one.max_tokens
            logprobs = [{token: SimpleNamespace(logprob=-0.5 * step)} for step, token in enumerate(ids)]
            outputs.append(SimpleNamespace(outputs=[SimpleNamespace(token_ids=tuple(ids), logprobs=logprobs)]))
        return outputs


@pytest.fixture
def made(monkeypatch):
    """The engines that were made."""
    engines = []
    package, lora = ModuleType("vllm"), ModuleType("vllm.lora.request")
    package.LLM = lambda **options: StandIn(engines, **options)
    package.SamplingParams = lambda **options: SimpleNamespace(**options)
    lora.LoRARequest = lambda name, number, path: SimpleNamespace(name=name, number=number, path=path)
    for name, module in {"vllm": package, "vllm.lora": ModuleType("vllm.lora"), "vllm.lora.request": lora}.items():
        monkeypatch.setitem(sys.modules, name, module)
    return engines


@pytest.fixture
def prompts(encoder):
    return [
        encoder.encode(make_example("one"), [[face("red"), face("blue")]]),
        encoder.encode(make_example("two"), [[]]),
    ]


def test_without_vllm_one_line_says_what_to_do(tiny, prompts, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigError, match=r"vLLM is not installed.*engine=native"):
        sample_completions(tiny, prompts, VLLM, [[1], [2]])


def test_completions_come_back_in_groups_with_ids_log_probabilities_and_reasons(tiny, prompts, made):
    groups = sample_completions(tiny, prompts, VLLM, [[1, 2], [3, 4]])
    assert [[int(one.ids[0]) for one in group] for group in groups] == [[100, 101], [102, 103]]
    ended, cut = groups[0]
    assert ended.ids.tolist() == [100, 200, tiny.eos_id]
    assert ended.logprobs.tolist() == [0.0, -0.5, -1.0]
    assert (ended.finish_reason, cut.finish_reason) == ("stop", "length")
    assert len(cut.ids) == VLLM.max_new_tokens


def test_it_is_asked_for_the_distribution_that_scoring_has(tiny, prompts, made):
    sample_completions(tiny, prompts, VLLM, [[1, 2**63 + 5], [3, 4]])
    (engine,) = made
    ((_, parameters, adapter),) = engine.asked
    assert adapter is None
    assert engine.options["logprobs_mode"] == "processed_logprobs"
    assert "trust_remote_code" not in engine.options
    assert [one.seed for one in parameters] == [1, 5, 3, 4]
    assert parameters[0].temperature == SAMPLING.temperature
    assert parameters[0].allowed_token_ids == (~tiny.suppressed_V).nonzero().squeeze(-1).tolist()


def test_a_picture_is_one_placeholder_and_what_the_vision_tower_made_of_it(tiny, prompts, made):
    sample_completions(tiny, prompts, VLLM, [[1], [2]])
    (((seen, plain), _, _),) = made[0].asked
    image, ids = tiny.processor.image_token_id, prompts[0].prompt_ids
    assert (ids == image).sum() > 2
    assert seen["prompt_token_ids"].count(image) == 2
    assert [id for id in seen["prompt_token_ids"] if id != image] == ids[ids != image].tolist()
    pictures = seen["multi_modal_data"]["image"]
    torch.testing.assert_close(pictures["image_embeds"], tiny.encode_images(prompts[0]).image_embeds)
    assert torch.equal(pictures["image_grid_thw"], prompts[0].image_grid_thw)
    assert plain == {"prompt_token_ids": prompts[1].prompt_ids.tolist()}


def test_the_base_is_written_once_and_the_adapter_for_each_rollout(tiny, prompts, lora, made):
    bare = {name: value.clone() for name, value in tiny.qwen.state_dict().items()}
    add_adapter(tiny, lora, seed=0)
    sample_completions(tiny, prompts, VLLM, [[1], [2]])
    with torch.no_grad():
        next(parameter for name, parameter in tiny.named_parameters() if "lora_B" in name).fill_(0.5)
    sample_completions(tiny, prompts, VLLM, [[1], [2]])
    (engine,) = made
    (_, _, first), (_, _, second) = engine.asked
    assert (first.number, second.number) == (1, 2)
    assert not Path(first.path).exists()
    assert any((value == 0.5).all() for value in load_file(f"{second.path}/adapter_model.safetensors").values())
    written = Qwen2_5_VLForConditionalGeneration.from_pretrained(engine.options["model"])
    for name, value in written.state_dict().items():
        assert torch.equal(value, bare[name])
