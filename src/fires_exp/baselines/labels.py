"""The corpus's labels that baselines learn to write."""

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
        """The label of an instance, of its last seeker turn or of its target; empty where the corpus has none. A turn that was
        merged from several lines may have several: its first counts."""
        if self is Label.STRATEGY:
            labels = example.target.strategies
        elif self is Label.SUPPORTER_EMOTION:
            labels = example.target.emotions
        else:
            labels = next((turn.emotions for turn in reversed(example.history) if turn.speaker == "seeker"), ())
        return labels[0] if labels else ""


def check_labels(baseline: str, needs: Sequence[Label], examples: Sequence[SupportExample], dataset: str) -> None:
    """Raises `DataError` where a label that a baseline learns from is missing, before anything is trained."""
    for label in needs:
        without = [example for example in examples if not label.of(example)]
        if without:
            raise DataError(
                f"{without[0].source or without[0].id}: no {label} for {without[0].id} ({len(without)} of {len(examples)} "
                f"instances of dataset={dataset} have none), and trained_baseline={baseline} learns to write it; label them, or "
                "train on dataset=mesc or dataset=sample, which have every label"
            )
