"""How good a classifier of levels is: accuracy, F1, confusion, calibration. Counted by torchmetrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_f1_score,
)

CALIBRATION_BINS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationBin:
    """Predictions whose highest probability lies in [low, high): how many, how sure on average, how often right."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelTable:
    """A classifier on a test split, beside always guessing the majority level. `confusion[true][predicted]` counts pairs;
    `calibration_error` is the expected one over `bins`."""

    count: int
    accuracy: float
    macro_f1: float
    f1: tuple[float, ...]
    majority_accuracy: float
    majority_macro_f1: float
    confusion: tuple[tuple[int, ...], ...]
    calibration_error: float
    bins: tuple[CalibrationBin, ...]


def macro_f1(expected: Sequence[int], found: Sequence[int], classes: int) -> float:
    """Mean over the levels of F1; a level that is neither there nor predicted counts 0."""
    return sum(f1_scores(expected, found, classes)) / classes


def f1_scores(expected: Sequence[int], found: Sequence[int], classes: int) -> list[float]:
    """F1 of each level."""
    scores = multiclass_f1_score(torch.tensor(found), torch.tensor(expected), num_classes=classes, average="none")
    return [float(score) for score in scores]


def level_table(expected: Sequence[int], logits_NL: Tensor) -> LevelTable:
    """The table of a classifier from its logits [N, levels]."""
    levels = logits_NL.shape[1]
    truth_N = torch.tensor(expected)
    found_N = logits_NL.argmax(dim=-1)
    probabilities_NL = logits_NL.softmax(dim=-1)
    majority = max(range(levels), key=lambda level: (list(expected).count(level), -level))
    f1 = f1_scores(expected, found_N.tolist(), levels)
    guess = [majority] * len(expected)
    confusion = multiclass_confusion_matrix(found_N, truth_N, num_classes=levels)
    return LevelTable(
        count=len(expected),
        accuracy=float((found_N == truth_N).double().mean()),
        macro_f1=sum(f1) / levels,
        f1=tuple(f1),
        majority_accuracy=list(expected).count(majority) / len(expected),
        majority_macro_f1=macro_f1(expected, guess, levels),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion.tolist()),
        calibration_error=float(
            multiclass_calibration_error(probabilities_NL, truth_N, num_classes=levels, n_bins=CALIBRATION_BINS, norm="l1")
        ),
        bins=_bins(probabilities_NL, found_N == truth_N),
    )


def _bins(probabilities_NL: Tensor, right_N: Tensor) -> tuple[CalibrationBin, ...]:
    """Ten bins of equal width; empty ones are left out."""
    sure_N = probabilities_NL.max(dim=-1).values
    place_N = (sure_N * CALIBRATION_BINS).long().clamp(max=CALIBRATION_BINS - 1)
    bins = []
    for place in range(CALIBRATION_BINS):
        inside = place_N == place
        if inside.any():
            bins.append(
                CalibrationBin(
                    low=place / CALIBRATION_BINS,
                    high=(place + 1) / CALIBRATION_BINS,
                    count=int(inside.sum()),
                    confidence=float(sure_N[inside].mean()),
                    accuracy=float(right_N[inside].double().mean()),
                )
            )
    return tuple(bins)


def token_f1(expected_N: Tensor, found_N: Tensor, ignored: int) -> float:
    """Mean F1 of the two values of a bit over the tokens that are not `ignored`."""
    counted = expected_N != ignored
    scores = multiclass_f1_score(found_N[counted], expected_N[counted], num_classes=2, average="none")
    return float(scores.mean())
