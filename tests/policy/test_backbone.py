"""Backbones: from a folder, from the hub, and the choices that depend on the machine."""

import pytest
import torch

from fires_exp.config.model import BackboneConfig
from fires_exp.errors import BackboneError
from fires_exp.policy.backbone import backbone_source, build_policy, choose_attention, choose_dtype

CPU = torch.device("cpu")


def test_a_folder_without_a_model_is_refused(cache):
    config = BackboneConfig(name="x", source="hub", path="./nowhere", revision=None, dtype="float32", attention="sdpa")
    with pytest.raises(BackboneError, match=r"backbone\.path=\./nowhere"):
        backbone_source(config, cache)


def test_an_unreachable_hub_is_one_line_with_the_remedy(cache):
    config = BackboneConfig(name="x", source="hub", path="nobody/nothing", revision=None, dtype="float32", attention="sdpa")
    with pytest.raises(BackboneError, match=r"HF_HUB_OFFLINE is set.*backbone\.path=<local folder>") as caught:
        build_policy(config, cache, CPU)
    assert "\n" not in str(caught.value)


def test_a_local_folder_is_a_backbone_like_any_other(tiny_config, cache):
    folder = backbone_source(tiny_config, cache)
    config = BackboneConfig(name="local", source="hub", path=folder, revision=None, dtype="bfloat16", attention="eager")
    policy = build_policy(config, cache, CPU)
    assert next(policy.parameters()).dtype is torch.bfloat16
    assert policy.qwen.config._attn_implementation == "eager"


def test_machine_dependent_choices_can_be_fixed():
    assert choose_dtype("float32", CPU) is torch.float32
    assert choose_dtype("auto", torch.device("cuda")) is torch.bfloat16
    assert choose_attention("eager", CPU) == "eager"
    assert choose_attention("auto", CPU) == "sdpa"


def test_tiny_has_a_few_hundred_thousand_parameters(tiny):
    assert 100_000 < sum(parameter.numel() for parameter in tiny.parameters()) < 900_000
