"""BBMHR (Zhang et al., 2023, "Ask an Expert"): BlenderBot for mental health with reasoning. A language model is asked at each
turn how the seeker feels, why, and what would help; its advice is read with the conversation, and the response is written."""

from __future__ import annotations

from collections.abc import Sequence

from fires_exp.baselines.interface import Hint, Reading, TrainedBaseline
from fires_exp.data.records import SupportExample
from fires_exp.prompts.templates import ROLE


class Bbmhr(TrainedBaseline):
    name = "bbmhr"
    instruction = f"{ROLE} An expert's advice stands in brackets at the end. Write the reply only."
    needs = ()
    hint = Hint(
        about="conversation",
        question="You are an expert who advises the supporter. In one short sentence each: how does the seeker feel, why, and "
        "what should the supporter do next? Write the sentences only.",
    )

    def target(self, example: SupportExample) -> str:
        return example.reference_response

    def read(self, text: str) -> Reading:
        return Reading(response=text.strip(), said={}, well_formed=bool(text.strip()))

    def marks(self, examples: Sequence[SupportExample]) -> tuple[str, ...]:
        return ()
