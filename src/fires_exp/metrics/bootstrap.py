"""The bootstrap over test instances: resamples, confidence intervals, and the paired comparison of systems.

A resample is a row of weights, the number of times that each instance was drawn; `weights_RN` is [R resamples, N instances]. A
statistic maps it to R values, so that all resamples of a metric are one matrix product. Systems with responses to the same
instances share the resamples, which makes their comparison paired.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fires_exp.scores.bleu import bleu_2

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of `values_N` over the instances where `among_N` is 1; NaN on a resample without such an instance."""

    values_N: Floats
    among_N: Floats

    def __call__(self, weights_RN: Floats) -> Floats:
        sums_R, counts_R = weights_RN @ (self.values_N * self.among_N), weights_RN @ self.among_N
        return np.divide(sums_R, counts_R, out=np.full_like(sums_R, np.nan), where=counts_R > 0)


@dataclass(frozen=True, slots=True)
class Bleu2:
    """BLEU-2 of the corpus, from the six counts of each instance (`scores.bleu.bleu_2_counts`)."""

    counts_N6: Floats

    def __call__(self, weights_RN: Floats) -> Floats:
        return bleu_2(weights_RN @ self.counts_N6)


@dataclass(frozen=True, slots=True)
class Jackknife:
    """A statistic of the corpus, `value`, that drawing an instance twice would bias: its n-grams would no longer be distinct.

    A resample is `value` plus the mean influence of the drawn instances. An instance's influence is N - 1 times the difference
    between the mean of `without_N`, the statistic with one instance left out, and its own entry there. The variance over
    resamples is that of the jackknife.
    """

    value: float
    without_N: Floats

    def __call__(self, weights_RN: Floats) -> Floats:
        influence_N = (len(self.without_N) - 1) * (self.without_N.mean() - self.without_N)
        return np.asarray(self.value + weights_RN @ influence_N / weights_RN.sum(axis=1))


def draw_resamples(instances: int, samples: int, seed: int) -> Floats:
    """`weights_RN` of `samples` resamples with replacement, determined by the three arguments."""
    drawn = np.random.default_rng(seed).multinomial(instances, np.full(instances, 1 / instances), size=samples)
    return drawn.astype(np.float64)


def value(statistic: Statistic, instances: int) -> float:
    """The statistic on the original instances."""
    return float(statistic(np.ones((1, instances)))[0])


def interval(resampled_R: Floats, confidence: float) -> tuple[float, float]:
    """The percentile interval of a resampled statistic."""
    low, high = np.nanquantile(resampled_R, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def p_value(differences_R: Floats) -> float:
    """Two-sided p-value: twice the share of resamples whose difference is zero or has the rarer sign.

    One is added to numerator and denominator, so that it is never 0. It is below 0.05 about when the 95 % interval of the
    difference excludes zero.
    """
    rarer = min(int((differences_R <= 0).sum()), int((differences_R >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(differences_R) + 1))
