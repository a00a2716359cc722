"""BBMHR (Zhang et al., 2023, "Ask an Expert"): BlenderBot for mental health with reasoning. At each turn, a language model says
how the seeker feels, why, and what would help; the baseline reads this advice with the history and writes the response."""

from __future__ import annotations

from collections.abc import Sequence

from fires_exp.baselines.interface import BaselineOutput, Hint, TrainedBaseline
from fires_exp.data.records import SupportExample
from fires_exp.prompts.templates import ROLE


class Bbmhr(TrainedBaseline):
    name = "bbmhr"
    instruction = f"{ROLE} An expert's advice stands in brackets at the end. Write the reply only."
    required_labels = ()
    hint = Hint(
        about="conversation",
        question="You are an expert who advises the supporter. In one short sentence each: how does the seeker feel, why, and "
        "what should the supporter do next? Write the sentences only.",
    )

    def target_text(self, example: SupportExample) -> str:
        return example.reference_response

    def parse(self, text: str) -> BaselineOutput:
        return BaselineOutput(response=text.strip(), labels={}, well_formed=bool(text.strip()))

    def special_tokens(self, examples: Sequence[SupportExample]) -> tuple[str, ...]:
        return ()
