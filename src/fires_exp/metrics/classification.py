"""Quality of a classifier of levels: accuracy, F1, confusion, calibration, computed by torchmetrics."""

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
    """Predictions whose highest probability is in [low, high): their number, mean probability, and share of correct ones."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, kw_only=True, slots=True)
class LevelTable:
    """A classifier's results on a test split, with those of always predicting the majority level.

    `confusion[true][predicted]` counts pairs; `calibration_error` is the expected calibration error over `bins`.
    """

    count: int
    accuracy: float
    macro_f1: float
    f1: tuple[float, ...]
    majority_accuracy: float
    majority_macro_f1: float
    confusion: tuple[tuple[int, ...], ...]
    calibration_error: float
    bins: tuple[CalibrationBin, ...]


def macro_f1(expected: Sequence[int], predicted: Sequence[int], classes: int) -> float:
    """Mean F1 over the levels; a level that is neither expected nor predicted counts 0."""
    return sum(f1_scores(expected, predicted, classes)) / classes


def f1_scores(expected: Sequence[int], predicted: Sequence[int], classes: int) -> list[float]:
    """F1 of each level."""
    scores = multiclass_f1_score(torch.tensor(predicted), torch.tensor(expected), num_classes=classes, average="none")
    return [float(score) for score in scores]


def level_table(expected: Sequence[int], logits_N3: Tensor) -> LevelTable:
    """The table of a classifier from its logits [N, 3], one column per level."""
    levels = logits_N3.shape[1]
    expected_N = torch.tensor(expected)
    predicted_N = logits_N3.argmax(dim=-1)
    probabilities_N3 = logits_N3.softmax(dim=-1)
    majority = max(range(levels), key=lambda level: (list(expected).count(level), -level))
    f1 = f1_scores(expected, predicted_N.tolist(), levels)
    majority_guess = [majority] * len(expected)
    confusion = multiclass_confusion_matrix(predicted_N, expected_N, num_classes=levels)
    return LevelTable(
        count=len(expected),
        accuracy=float((predicted_N == expected_N).double().mean()),
        macro_f1=sum(f1) / levels,
        f1=tuple(f1),
        majority_accuracy=list(expected).count(majority) / len(expected),
        majority_macro_f1=macro_f1(expected, majority_guess, levels),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion.tolist()),
        calibration_error=float(
            multiclass_calibration_error(probabilities_N3, expected_N, num_classes=levels, n_bins=CALIBRATION_BINS, norm="l1")
        ),
        bins=_bins(probabilities_N3, predicted_N == expected_N),
    )


def _bins(probabilities_N3: Tensor, correct_N: Tensor) -> tuple[CalibrationBin, ...]:
    """Bins of equal width, without empty ones."""
    confidence_N = probabilities_N3.max(dim=-1).values
    bin_N = (confidence_N * CALIBRATION_BINS).long().clamp(max=CALIBRATION_BINS - 1)
    bins = []
    for index in range(CALIBRATION_BINS):
        in_bin_N = bin_N == index
        if in_bin_N.any():
            bins.append(
                CalibrationBin(
                    low=index / CALIBRATION_BINS,
                    high=(index + 1) / CALIBRATION_BINS,
                    count=int(in_bin_N.sum()),
                    confidence=float(confidence_N[in_bin_N].mean()),
                    accuracy=float(correct_N[in_bin_N].double().mean()),
                )
            )
    return tuple(bins)


def token_f1(expected_N: Tensor, predicted_N: Tensor, ignored: int) -> float:
    """Mean F1 of the two values of a bit, over the tokens whose expected value is not `ignored`."""
    counted = expected_N != ignored
    scores = multiclass_f1_score(predicted_N[counted], expected_N[counted], num_classes=2, average="none")
    return float(scores.mean())
