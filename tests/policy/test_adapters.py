"""Adapters: fresh, merged, off; one at a time, and readable by plain PEFT."""

from dataclasses import replace

import pytest
import torch
from making import face, make_example
from peft import PeftModel
from transformers import Qwen2_5_VLForConditionalGeneration

from fires_exp.errors import BackboneError, TrainingError
from fires_exp.policy.adapters import add_adapter, check_trainable, merge_adapter, parameters_hash, save_adapter
from fires_exp.policy.backbone import backbone_source, build_policy
from fires_exp.policy.logprobs import completion_logprobs
from fires_exp.prompts.collate import collate


@pytest.fixture
def inputs(encoder):
    prompt = encoder.encode(make_example(), [[face("red")]])
    return collate([prompt], [encoder.completion_ids("Tell me more.")], pad_id=encoder.processor.tokenizer.pad_token_id)


def perturb(policy):
    """Change the trainable weights, as training would."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)


def scored(policy, inputs):
    with torch.no_grad():
        return completion_logprobs(policy, inputs, 1.0).logprobs_BC


@pytest.mark.parametrize("train_vision", [False, True])
def test_a_fresh_adapter_changes_nothing_and_off_is_the_reference(tiny, lora, inputs, train_vision):
    before = scored(tiny, inputs)
    lora = replace(lora, train_vision=train_vision)
    add_adapter(tiny, lora, seed=0)
    assert torch.equal(scored(tiny, inputs), before)
    perturb(tiny)
    assert not torch.equal(scored(tiny, inputs), before)
    with tiny.as_reference():
        assert torch.equal(scored(tiny, inputs), before)
    assert not torch.equal(scored(tiny, inputs), before)


@pytest.mark.parametrize("train_vision", [False, True])
def test_merging_an_adapter_keeps_the_outputs(tiny, tiny_config, cache, lora, inputs, tmp_path, train_vision):
    add_adapter(tiny, replace(lora, train_vision=train_vision), seed=0)
    perturb(tiny)
    expected = scored(tiny, inputs)
    save_adapter(tiny, tmp_path)
    merged = build_policy(tiny_config, cache, torch.device("cpu"))
    merge_adapter(merged, tmp_path)
    torch.testing.assert_close(scored(merged, inputs), expected, atol=1e-5, rtol=0)
    add_adapter(merged, lora, seed=0)
    with merged.as_reference():
        torch.testing.assert_close(scored(merged, inputs), expected, atol=1e-5, rtol=0)


def test_a_saved_adapter_loads_in_plain_peft(tiny, tiny_config, cache, lora, inputs, tmp_path):
    add_adapter(tiny, lora, seed=0)
    perturb(tiny)
    save_adapter(tiny, tmp_path)
    assert (tmp_path / "adapter_model.safetensors").is_file()
    plain = Qwen2_5_VLForConditionalGeneration.from_pretrained(backbone_source(tiny_config, cache), dtype=torch.float32)
    expected = scored(tiny, inputs)
    tiny.model = PeftModel.from_pretrained(plain, str(tmp_path)).eval()
    assert torch.equal(scored(tiny, inputs), expected)


def test_only_the_adapter_trains_and_it_is_counted(tiny, lora):
    add_adapter(tiny, lora, seed=0)
    count = check_trainable(tiny, lora)
    # two layers; q, k, v, o, gate, up, down: rank 4 times (in + out)
    sizes = [(64, 64), (64, 32), (64, 32), (64, 64), (64, 128), (64, 128), (128, 64)]
    assert count == 2 * sum(4 * (inputs + outputs) for inputs, outputs in sizes)
    next(parameter for parameter in tiny.parameters() if not parameter.requires_grad).requires_grad_(True)
    with pytest.raises(TrainingError, match="outside it"):
        check_trainable(tiny, lora)


def test_a_second_adapter_is_refused(tiny, lora):
    add_adapter(tiny, lora, seed=0)
    with pytest.raises(TrainingError, match="already has an adapter"):
        add_adapter(tiny, lora, seed=0)


def test_targets_that_match_nothing_are_refused_by_name(tiny, lora):
    with pytest.raises(BackboneError, match=r"lora\.target_modules=no_such"):
        add_adapter(tiny, replace(lora, target_modules="no_such"), seed=0)


def test_the_vision_tower_has_no_lora(tiny, lora):
    add_adapter(tiny, lora, seed=0)
    assert not [name for name, _ in tiny.named_parameters() if "lora_" in name and "visual" in name]


def test_the_same_seed_gives_the_same_adapter(tiny, tiny_config, cache, lora):
    add_adapter(tiny, lora, seed=3)
    other = build_policy(tiny_config, cache, torch.device("cpu"))
    torch.manual_seed(99)
    add_adapter(other, lora, seed=3)
    assert parameters_hash(tiny, trainable=True) == parameters_hash(other, trainable=True)


def test_a_folder_without_an_adapter_is_refused_in_one_line(tiny, tmp_path):
    with pytest.raises(BackboneError, match=str(tmp_path)):
        merge_adapter(tiny, tmp_path)
