"""Intervals and p-values: against normal theory, in simulations, and by hand."""

import numpy as np
import pytest

from fires_exp.metrics.bootstrap import Jackknife, Mean, draw_resamples, interval, p_value, value
from fires_exp.scores.distinct import distinct, distinct_without_each


def mean(values):
    return Mean(np.asarray(values, dtype=float), among_N=np.ones(len(values)))


def test_a_resample_has_as_many_instances_as_the_original_and_follows_the_seed():
    weights_RN = draw_resamples(7, 100, seed=1)
    assert weights_RN.shape == (100, 7)
    assert (weights_RN.sum(axis=1) == 7).all()
    np.testing.assert_array_equal(weights_RN, draw_resamples(7, 100, seed=1))
    assert (weights_RN != draw_resamples(7, 100, seed=2)).any()


def test_a_mean_by_hand_and_over_some_instances():
    weights_RN = np.array([[1.0, 1, 1], [2, 0, 1], [0, 3, 0]])
    np.testing.assert_allclose(mean([1, 2, 6])(weights_RN), [3, 8 / 3, 2])
    np.testing.assert_allclose(Mean(np.array([1.0, 2, 6]), among_N=np.array([1.0, 0, 1]))(weights_RN), [3.5, 8 / 3, np.nan])
    assert value(mean([1, 2, 6]), 3) == 3


def test_the_interval_of_a_mean_agrees_with_normal_theory():
    values = np.random.default_rng(3).normal(5, 2, size=400)
    low, high = interval(mean(values)(draw_resamples(400, 4000, seed=0)), 0.95)
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.06 * half)


def test_a_95_percent_interval_covers_the_truth_95_times_in_100():
    weights_RN = draw_resamples(80, 500, seed=0)
    samples = np.random.default_rng(5).exponential(1.0, size=(400, 80))
    covered = [low <= 1.0 <= high for low, high in (interval(mean(sample)(weights_RN), 0.95) for sample in samples)]
    assert 0.90 <= np.mean(covered) <= 0.97


def test_p_is_uniform_without_a_difference():
    weights_RN = draw_resamples(80, 500, seed=0)
    both = np.random.default_rng(6).normal(size=(600, 80, 2)) + np.random.default_rng(7).normal(size=(600, 80, 1))
    p_values = np.array([p_value(mean(pair[:, 1])(weights_RN) - mean(pair[:, 0])(weights_RN)) for pair in both])
    for level in (0.05, 0.25, 0.5, 0.75):
        assert (p_values <= level).mean() == pytest.approx(level, abs=0.04 if level > 0.05 else 0.025)


def test_pairing_detects_a_difference_that_two_separate_intervals_hide():
    # instances differ far more from each other (sd 10) than the systems do (0.5 with sd 1)
    random = np.random.default_rng(8)
    first = random.normal(50, 10, size=200)
    second = first + random.normal(0.5, 1, size=200)
    weights_RN = draw_resamples(200, 1000, seed=0)
    first_R, second_R = (mean(values)(weights_RN) for values in (first, second))
    assert interval(first_R, 0.95)[1] > interval(second_R, 0.95)[0]
    assert p_value(second_R - first_R) == pytest.approx(2 / 1001)


def test_p_by_hand():
    assert p_value(np.array([1.0, 2, 3])) == 2 * (0 + 1) / (3 + 1)
    assert p_value(np.array([-1.0, 1, 1, 1, 1, 1, 1])) == 2 * (1 + 1) / (7 + 1)
    assert p_value(np.array([-1.0, 1, -1, 1])) == 1.0
    assert p_value(np.zeros(9)) == 1.0, "systems with equal responses"


def jackknife(responses):
    return Jackknife(distinct(responses, 3), np.array(distinct_without_each(responses, 3)))


def test_the_influence_of_each_response_by_hand():
    # 4 of 5 trigrams differ; without the first 1 of 1, without the second 3 of 4, without the third 4 of 5
    statistic = jackknife(["a b c a b c", "b c d", "a b"])
    influences = [2 * (2.55 / 3 - without) for without in (1.0, 0.75, 0.8)]
    weights_RN = np.array([[1.0, 1, 1], [0, 2, 1]])
    np.testing.assert_allclose(statistic(weights_RN), [0.8, 0.8 + (2 * influences[1] + influences[2]) / 3])


def test_the_interval_of_distinct_3_covers_the_value_of_new_corpora():
    random = np.random.default_rng(9)
    words = np.array([f"w{number}" for number in range(40)])
    shares = 1 / np.arange(1, 41)

    def corpus():
        return [" ".join(random.choice(words, size=8, p=shares / shares.sum())) for _ in range(100)]

    truth = np.mean([distinct(corpus(), 3) for _ in range(100)])
    weights_RN = draw_resamples(100, 300, seed=0)
    corpora = [corpus() for _ in range(60)]
    covered = [low <= truth <= high for low, high in (interval(jackknife(texts)(weights_RN), 0.95) for texts in corpora)]
    assert np.mean(covered) >= 0.9
    redrawn = [[texts[index] for index in random.integers(0, 100, size=100)] for texts in corpora]
    assert max(distinct(texts, 3) for texts in redrawn) < truth, "plain resampling is biased"
