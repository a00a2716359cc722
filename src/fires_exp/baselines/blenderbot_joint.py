"""BlenderBot-Joint (Liu et al., 2021): a strategy token, then the response. Supporter turns of the history carry theirs too, as
in the published code."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fires_exp.baselines.interface import Reading, TrainedBaseline
from fires_exp.baselines.labels import Label
from fires_exp.data.records import SupportExample, Utterance
from fires_exp.prompts.templates import ROLE

_FORM = re.compile(r"\s*\[(?P<strategy>[^\[\]]+)\](?P<response>.*)", re.DOTALL)


class BlenderBotJoint(TrainedBaseline):
    name = "blenderbot_joint"
    instruction = f"{ROLE} Write your strategy in square brackets, then the reply."
    needs = (Label.STRATEGY,)
    hint = None

    def target(self, example: SupportExample) -> str:
        return f"{_token(Label.STRATEGY.of(example))} {example.reference_response}"

    def read(self, text: str) -> Reading:
        form = _FORM.fullmatch(text)
        if form is None:
            return Reading(response=text.strip(), said={}, well_formed=False)
        response = form["response"].strip()
        return Reading(response=response, said={Label.STRATEGY: form["strategy"].strip()}, well_formed=bool(response))

    def marks(self, examples: Sequence[SupportExample]) -> tuple[str, ...]:
        return tuple(sorted({_token(Label.STRATEGY.of(example)) for example in examples}))

    def turn(self, turn: Utterance) -> str:
        if turn.speaker == "supporter" and turn.strategies:
            return f"{_token(turn.strategies[0])} {turn.text}"
        return turn.text


def _token(strategy: str) -> str:
    return f"[{strategy}]"
