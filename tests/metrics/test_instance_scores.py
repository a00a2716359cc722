"""Statistics that are written and read give the same resamples, bit for bit."""

import numpy as np
import pytest

from fires_exp.errors import ScoreError
from fires_exp.metrics.bootstrap import Mean, draw_resamples
from fires_exp.metrics.instance_scores import instance_scores_text, read_instance_scores
from fires_exp.metrics.measures import ScoredResponse, bleu, distinct_3, form, rouge
from fires_exp.metrics.rows import Measure

THOUGHT = "Emotion: sad\nResponse Strategy: I ask."


def measures():
    texts = ["I hear you, go on", "That is hard", "What happened then, and why?", ""]
    responses = [
        ScoredResponse(response=text, reference="I hear you", context="c", thought=THOUGHT, well_formed=index != 2)
        for index, text in enumerate(texts)
    ]
    return [measure for family in (bleu, rouge, distinct_3, form) for measure in family(responses)]


def test_every_statistic_resamples_as_before_writing(tmp_path):
    path = tmp_path / "sft.jsonl"
    path.write_text(instance_scores_text(["a", "b", "c", "d"], measures()))
    weights = draw_resamples(4, 50, seed=1)
    scores = read_instance_scores(path)
    assert scores.ids == ("a", "b", "c", "d")
    resampled = scores.resampled(weights)
    assert list(resampled) == [measure.name for measure in measures()]
    assert {type(statistic).__name__ for statistic in scores.statistics.values()} == {"Bleu2", "Mean", "Jackknife"}
    for measure in measures():
        np.testing.assert_array_equal(resampled[measure.name], measure.scale * measure.statistic(weights))


def test_a_mean_over_some_instances_excludes_the_others_after_reading(tmp_path):
    mean = Mean(np.array([1.0, 0.0, 1.0]), among_N=np.array([1.0, 1.0, 0.0]))
    measure = Measure(name="m", direction="none", tokens="-", version="1", statistic=mean, count=2, scale=100.0)
    (tmp_path / "x").write_text(instance_scores_text(["a", "b", "c"], [measure]))
    assert read_instance_scores(tmp_path / "x").resampled(np.ones((1, 3)))["m"].tolist() == [50.0]


@pytest.mark.parametrize(
    "text", ["", "{", '{"ids": ["a"]}\n{"name": "m"}\n', "[]\n", '{"ids": ["a"]}\n{"name": "m", "kind": "?"}\n']
)
def test_an_incomplete_file_is_one_line(tmp_path, text):
    (tmp_path / "x.jsonl").write_text(text)
    with pytest.raises(ScoreError, match=r"x\.jsonl"):
        read_instance_scores(tmp_path / "x.jsonl")
