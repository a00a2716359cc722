"""How far a number would move with other instances: resamples of the instances, intervals, and the paired comparison.

A resample is a row of weights, how often each instance was drawn; `weights_RN` is [R resamples, N instances]. A statistic maps
it to R values, so all resamples of a metric are one matrix product. Systems that answered the same instances are read on the
same resamples, which makes their comparison paired.
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
    """The mean of `values_N` over the instances that `among_N` marks with 1; NaN on a resample that draws none of them."""

    values_N: Floats
    among_N: Floats

    def __call__(self, weights_RN: Floats) -> Floats:
        sums_R, counts_R = weights_RN @ (self.values_N * self.among_N), weights_RN @ self.among_N
        return np.divide(sums_R, counts_R, out=np.full_like(sums_R, np.nan), where=counts_R > 0)


@dataclass(frozen=True, slots=True)
class Bleu2:
    """BLEU-2 of the corpus, from `counts_NK`, each instance's counts."""

    counts_NK: Floats

    def __call__(self, weights_RN: Floats) -> Floats:
        return bleu_2(weights_RN @ self.counts_NK)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A statistic of the whole corpus, `value`, that repeated instances would falsify: an n-gram of a response drawn twice is no
    longer distinct. Its resamples are `value` plus the mean of each drawn instance's pull on it, which is how much it moves when
    that instance is left out (`without_N`), N - 1 times; their variance is the jackknife's."""

    value: float
    without_N: Floats

    def __call__(self, weights_RN: Floats) -> Floats:
        pulls_N = (len(self.without_N) - 1) * (self.without_N.mean() - self.without_N)
        return np.asarray(self.value + weights_RN @ pulls_N / weights_RN.sum(axis=1))


def draw_resamples(instances: int, samples: int, seed: int) -> Floats:
    """`weights_RN` of `samples` resamples with replacement; the same for the same three numbers."""
    drawn = np.random.default_rng(seed).multinomial(instances, np.full(instances, 1 / instances), size=samples)
    return drawn.astype(np.float64)


def value(statistic: Statistic, instances: int) -> float:
    """The statistic on the instances as they are."""
    return float(statistic(np.ones((1, instances)))[0])


def interval(resampled_R: Floats, confidence: float) -> tuple[float, float]:
    """The percentile interval."""
    low, high = np.nanquantile(resampled_R, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def p_value(differences_R: Floats) -> float:
    """Two-sided: twice the share of resamples on which the difference is zero or on its rarer side, with one added above and
    below, so that it is never 0. It falls below 0.05 about where the 95 % interval of the difference leaves zero out."""
    rarer = min(int((differences_R <= 0).sum()), int((differences_R >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(differences_R) + 1))
