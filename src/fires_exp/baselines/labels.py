"""Labels of the corpus that baselines learn to write."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from fires_exp.data.records import SupportExample
from fires_exp.errors import DataError


class Label(StrEnum):
    """A label of an instance; the value is its name in a baseline's text."""

    SEEKER_EMOTION = "seeker emotion"
    STRATEGY = "strategy"
    SUPPORTER_EMOTION = "supporter emotion"

    def of(self, example: SupportExample) -> str:
        """The label of an instance: of its last seeker turn, or of its target; empty where the corpus has none. A turn merged
        from several lines may have several labels, of which the first is used."""
        if self is Label.STRATEGY:
            labels = example.target.strategies
        elif self is Label.SUPPORTER_EMOTION:
            labels = example.target.emotions
        else:
            labels = next((turn.emotions for turn in reversed(example.history) if turn.speaker == "seeker"), ())
        return labels[0] if labels else ""


def check_labels(baseline: str, required: Sequence[Label], examples: Sequence[SupportExample], dataset: str) -> None:
    """Raises `DataError` where an instance lacks a required label."""
    for label in required:
        unlabeled = [example for example in examples if not label.of(example)]
        if unlabeled:
            first = unlabeled[0]
            raise DataError(
                f"{first.source or first.id}: {first.id} has no {label} ({len(unlabeled)} of {len(examples)} "
                f"instances of dataset={dataset} have none), but trained_baseline={baseline} learns to write it; add the labels, "
                "or train on dataset=mesc or dataset=sample, which have them all"
            )
