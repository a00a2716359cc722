"""One adapter in place of two that were merged one after the other."""

from dataclasses import replace

import pytest
import torch
from making import face, make_example
from peft import PeftModel

from fires_exp.export.concat_lora import concat_adapters
from fires_exp.policy.adapters import add_adapter, merge_adapter, save_adapter
from fires_exp.policy.backbone import build_policy
from fires_exp.prompts.collate import collate


@pytest.mark.parametrize("train_vision", [False, True])
def test_adapters_of_different_rank_and_scale_and_a_trained_vision_tower_are_kept(
    tiny, tiny_config, cache, lora, encoder, tmp_path, train_vision
):
    """PEFT's combination_type="cat" gives the vision tower of the untrained backbone."""
    first = replace(lora, rank=4, alpha=8, train_vision=train_vision)
    second = replace(lora, rank=6, alpha=3)
    policy = tiny
    for name, config in (("first", first), ("second", second)):
        add_adapter(policy, config, seed=0)
        generator = torch.Generator().manual_seed(len(name))
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
        save_adapter(policy, tmp_path / name)
        policy = build_policy(tiny_config, cache, torch.device("cpu"))
        for merged in ("first", "second")[: 1 if name == "first" else 2]:
            merge_adapter(policy, tmp_path / merged)
    prompt = encoder.encode(make_example(turns=("I lost my job.", "When?", "On Monday.")), [[face("red")], [], []])
    inputs = collate([prompt], pad_id=policy.pad_id)
    concat_adapters([tmp_path / "first", tmp_path / "second"], tmp_path / "one", base="tiny", revision=None)
    other = build_policy(tiny_config, cache, torch.device("cpu"))
    with torch.no_grad():
        untrained = other(inputs).logits
        other.model = PeftModel.from_pretrained(other.model, str(tmp_path / "one"))
        other.eval()
        assert (other(inputs).logits - policy(inputs).logits).abs().max() < 1e-4
        assert (untrained - policy(inputs).logits).abs().max() > 1e-2
