"""SMES (Chu et al., 2024): facial expressions are described in words; then seeker emotion, strategy, supporter emotion and
response are written as one sequence."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fires_exp.baselines.interface import BaselineOutput, Hint, TrainedBaseline
from fires_exp.baselines.labels import Label
from fires_exp.data.records import SupportExample
from fires_exp.prompts.templates import ROLE

LABELS = (Label.SEEKER_EMOTION, Label.STRATEGY, Label.SUPPORTER_EMOTION)
SEGMENT_TOKENS = (*(f"[{label}]" for label in LABELS), "[response]")

_SEGMENT_TOKEN = re.compile("|".join(map(re.escape, SEGMENT_TOKENS)))


class Smes(TrainedBaseline):
    name = "smes"
    instruction = (
        f"{ROLE} What the seeker's face showed stands in brackets. Name what the seeker feels, your strategy and your own "
        f"emotion, then reply. Write exactly:\n{' … '.join(SEGMENT_TOKENS)} …"
    )
    required_labels = LABELS
    hint = Hint(
        about="turn",
        question="These frames show the seeker who says this. In one short sentence each: which emotion do face and posture "
        "show, and what may be its cause? Write the sentences only.",
    )

    def target_text(self, example: SupportExample) -> str:
        segments = (*(label.of(example) for label in LABELS), example.reference_response)
        return " ".join(f"{token} {segment}" for token, segment in zip(SEGMENT_TOKENS, segments, strict=True))

    def parse(self, text: str) -> BaselineOutput:
        before, *segments = (segment.strip() for segment in _SEGMENT_TOKEN.split(text))
        if tuple(_SEGMENT_TOKEN.findall(text)) == SEGMENT_TOKENS and not before and all(segments):
            *labels, response = segments
            return BaselineOutput(response=response, labels=dict(zip(LABELS, labels, strict=True)), well_formed=True)
        rest = text.rsplit(SEGMENT_TOKENS[-1], 1)[-1]
        return BaselineOutput(response=" ".join(_SEGMENT_TOKEN.sub(" ", rest).split()), labels={}, well_formed=False)

    def special_tokens(self, examples: Sequence[SupportExample]) -> tuple[str, ...]:
        return SEGMENT_TOKENS
