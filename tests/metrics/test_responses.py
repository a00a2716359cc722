"""The whole table: a copy of the reference is best in everything, and an absent metric has a reason."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from fires_exp.config.scoring import EncoderConfig, Metric, MetricsConfig, SimilarityConfig
from fires_exp.data.readers.sample import sample_texts
from fires_exp.errors import ScoreError
from fires_exp.metrics import responses as module
from fires_exp.metrics.measures import ScoredResponse
from fires_exp.metrics.responses import FAMILIES, response_metrics
from fires_exp.scores.epitome.levels import SkillLevels
from fires_exp.scores.wordnet import load_wordnet

ALL = list(Metric)


def configured(include=ALL, source="tiny", layer=2):
    encoder = EncoderConfig(name=source, source=source, path=None, revision=None)
    similarity = SimilarityConfig(encoder=encoder, layer=layer, batch_size=64)
    return MetricsConfig(include=list(include), similarity=similarity, bootstrap_samples=200, confidence=0.95)


class ByLength:
    """Levels from a response's length, so that they can be computed by hand."""

    name = "by length"
    version = "1"

    def levels(self, pairs):
        assert all(context for context, _ in pairs)
        return [SkillLevels(min(len(response.split()), 2), 0, int("?" in response)) for _, response in pairs]


def scored(response, reference="Yes, I see.", context="I am sad.", thought=None, well_formed=None):
    return ScoredResponse(response=response, reference=reference, context=context, thought=thought, well_formed=well_formed)


@pytest.fixture
def evaluate(cache):
    def run(systems, config, scorer=None):
        return response_metrics(systems, config, seed=42, cache=cache, device=torch.device("cpu"), scorer=scorer, progress=False)

    return run


def by_name(evaluation, system):
    return {row.name: row for row in evaluation.systems[system]}


def test_a_copy_of_the_reference_is_best_in_everything_and_shuffled_references_are_worse(evaluate, cache):
    try:
        load_wordnet(cache)
    except ScoreError as error:
        pytest.skip(str(error))
    texts = list(dict.fromkeys(text for text in sample_texts() if len(text.split()) > 4))[:60]
    shuffled = random.Random(0).sample(texts, len(texts))
    systems = {
        "copy": [scored(text, text, well_formed=True, thought="Emotion: sad") for text in texts],
        "shuffled": [scored(text, reference) for text, reference in zip(shuffled, texts, strict=True)],
    }
    evaluation = evaluate(systems, configured(source="minilm", layer=6), ByLength())
    assert evaluation.absent == ()
    copy, other = by_name(evaluation, "copy"), by_name(evaluation, "shuffled")
    for name in ("BLEU-2", "ROUGE-L (beta 1.2)", "ROUGE-L F1", "minilm score F1 (not BERTScore)"):
        assert copy[name].value == pytest.approx(100, abs=1e-3)
        assert (copy[name].low, copy[name].high) == pytest.approx((100, 100), abs=1e-3)
        assert other[name].high < 70
    assert 99 < copy["METEOR"].value < 100
    assert other["METEOR"].high < 50
    assert copy["DIFF-EPITOME"].value == 0 < other["DIFF-EPITOME, explorations"].low
    significant = {row.name: row for row in evaluation.comparisons if row.p_value < 0.05}
    assert significant.keys() == {
        *("BLEU-2", "ROUGE-L (beta 1.2)", "ROUGE-L F1", "METEOR", "minilm score F1 (not BERTScore)"),
        *("DIFF-EPITOME", "DIFF-EPITOME, explorations"),
    }
    assert significant["BLEU-2"].difference == pytest.approx(other["BLEU-2"].value - 100)
    assert significant["DIFF-EPITOME"].difference > 0


def test_every_metric_of_the_configuration_has_a_family():
    assert set(FAMILIES) == set(Metric)


def test_diff_epitome_by_hand(evaluate):
    # references have levels (2, 0, 0); "Why?" (1, 0, 1), "" (0, 0, 0), "So it is." (2, 0, 0)
    evaluation = evaluate({"a": [scored("Why?"), scored(""), scored("So it is.")]}, configured(["diff_epitome"]), ByLength())
    rows = by_name(evaluation, "a")
    assert rows["DIFF-EPITOME, emotional reactions"].value == pytest.approx(5 / 3)
    assert rows["DIFF-EPITOME, interpretations"].value == 0
    assert rows["DIFF-EPITOME, explorations"].value == pytest.approx(1 / 3)
    assert rows["DIFF-EPITOME"].value == pytest.approx(2 / 3)
    assert (rows["DIFF-EPITOME"].direction, rows["DIFF-EPITOME"].version) == ("lower", "by length 1")


def test_diff_epitome_is_absent_without_a_context_or_a_scorer(evaluate):
    responses = [scored("Why?"), scored("Oh.", context=None)]
    (absent,) = evaluate({"a": responses}, configured(["diff_epitome"]), ByLength()).absent
    assert (absent.name, absent.reason) == ("DIFF-EPITOME", '1 of 2 instances have no "context", the last seeker turn')
    (absent,) = evaluate({"a": responses[:1]}, configured(["diff_epitome"])).absent
    assert "reward.support_skill.scorer=<folder>" in absent.reason


def test_a_metric_that_cannot_be_computed_is_absent_with_its_remedy(evaluate, monkeypatch):
    def missing(cache):
        raise ScoreError("WordNet is not installed; run: …")

    monkeypatch.setattr(module, "load_wordnet", missing)
    config = configured()
    config.similarity.encoder = EncoderConfig(name="roberta-large", source="hub", path="nobody/roberta-large", revision=None)
    evaluation = evaluate({"a": [scored("Why?")]}, config)
    assert [metric.name for metric in evaluation.absent] == ["METEOR", "BERTScore", "DIFF-EPITOME"]
    assert evaluation.absent[0].reason == "WordNet is not installed; run: …"
    assert list(by_name(evaluation, "a")) == [
        *("BLEU-2", "ROUGE-L (beta 1.2)", "ROUGE-L F1", "Distinct-3 (corpus)", "Distinct-3 (per response)", "Response words"),
    ]


def test_form_is_reported_for_systems_that_are_asked_for_a_thought(evaluate):
    thought = "Emotion: sad\nResponse Strategy: ask"
    responses = [
        scored("Why is that?", thought=thought, well_formed=True),
        scored("Oh.", thought="Emotion: sad", well_formed=True),
        scored("Oh oh.", thought="", well_formed=False),
        scored("", thought="", well_formed=False),
    ]
    without_form = [replace(response, well_formed=None) for response in responses]
    evaluation = evaluate({"with": responses, "without": without_form}, configured([]))
    rows = by_name(evaluation, "with")
    assert (rows["Well-formed"].value, rows["Well-formed"].count) == (50.0, 4)
    assert (rows["Response words"].value, rows["Response words"].direction) == (1.5, "none")
    assert (rows["Emotion in thoughts"].value, rows["Emotion in thoughts"].count) == (100.0, 2)
    assert rows["Response Strategy in thoughts"].value == 50.0
    assert rows["Visual Scene in thoughts"].value == 0.0
    assert list(by_name(evaluation, "without")) == ["Response words"]
    assert evaluation.comparisons == ()


def test_empty_responses_score_zero(evaluate):
    config = configured([name for name in ALL if name != "meteor"])
    rows = by_name(evaluate({"a": [scored(""), scored(" ")]}, config), "a")
    assert {name: row.value for name, row in rows.items()} == dict.fromkeys(rows, 0.0)
    assert all(np.isfinite([row.low, row.high]).all() for row in rows.values())


def test_systems_are_compared_in_pairs_and_each_interval_holds_its_value(evaluate):
    systems = {
        name: [scored(text) for text in ("Yes.", "I see.", other)] for name, other in zip("abc", ("", "No.", "Yes."), strict=True)
    }
    evaluation = evaluate(systems, configured(["rouge_l"]))
    assert [(row.first, row.second) for row in evaluation.comparisons][::2] == [("a", "b"), ("a", "c"), ("b", "c")]
    for row in (row for rows in evaluation.systems.values() for row in rows):
        assert row.low <= row.value <= row.high
        assert row.count == 3
    assert evaluation == evaluate(systems, configured(["rouge_l"])), "the same seed gives the same table"
    table = evaluation.as_json()
    assert list(table) == ["policies", "comparisons", "absent", "bootstrap_samples", "confidence"]
    assert table["policies"]["a"][0]["name"] == "ROUGE-L (beta 1.2)"
