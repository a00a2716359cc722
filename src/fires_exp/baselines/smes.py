"""SMES (Chu et al., 2024): what a face shows is told in words; then seeker emotion, strategy, supporter emotion and response are
written in one sequence."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fires_exp.baselines.interface import Hint, Reading, TrainedBaseline
from fires_exp.baselines.labels import Label
from fires_exp.data.records import SupportExample
from fires_exp.prompts.templates import ROLE

LABELS = (Label.SEEKER_EMOTION, Label.STRATEGY, Label.SUPPORTER_EMOTION)
MARKS = (*(f"[{label}]" for label in LABELS), "[response]")

_MARK = re.compile("|".join(map(re.escape, MARKS)))


class Smes(TrainedBaseline):
    name = "smes"
    instruction = (
        f"{ROLE} What the seeker's face showed stands in brackets. Name what the seeker feels, your strategy and your own "
        f"emotion, then reply. Write exactly:\n{' … '.join(MARKS)} …"
    )
    needs = LABELS
    hint = Hint(
        about="turn",
        question="These frames show the seeker who says this. In one short sentence each: which emotion do face and posture "
        "show, and what may be its cause? Write the sentences only.",
    )

    def target(self, example: SupportExample) -> str:
        texts = (*(label.of(example) for label in LABELS), example.reference_response)
        return " ".join(f"{mark} {text}" for mark, text in zip(MARKS, texts, strict=True))

    def read(self, text: str) -> Reading:
        before, *texts = (piece.strip() for piece in _MARK.split(text))
        if tuple(_MARK.findall(text)) == MARKS and not before and all(texts):
            *labels, response = texts
            return Reading(response=response, said=dict(zip(LABELS, labels, strict=True)), well_formed=True)
        left = text.rsplit(MARKS[-1], 1)[-1]
        return Reading(response=" ".join(_MARK.sub(" ", left).split()), said={}, well_formed=False)

    def marks(self, examples: Sequence[SupportExample]) -> tuple[str, ...]:
        return MARKS
