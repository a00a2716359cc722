"""BlenderBot-Joint (Liu et al., 2021): a strategy token, then the response. As in the published code, the supporter's turns in
the history begin with their strategy token too."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fires_exp.baselines.interface import BaselineOutput, TrainedBaseline
from fires_exp.baselines.labels import Label
from fires_exp.data.records import SupportExample, Utterance
from fires_exp.prompts.templates import ROLE

_TARGET_FORMAT = re.compile(r"\s*\[(?P<strategy>[^\[\]]+)\](?P<response>.*)", re.DOTALL)


class BlenderBotJoint(TrainedBaseline):
    name = "blenderbot_joint"
    instruction = f"{ROLE} Write your strategy in square brackets, then the reply."
    required_labels = (Label.STRATEGY,)
    hint = None

    def target_text(self, example: SupportExample) -> str:
        return f"{_token(Label.STRATEGY.of(example))} {example.reference_response}"

    def parse(self, text: str) -> BaselineOutput:
        match = _TARGET_FORMAT.fullmatch(text)
        if match is None:
            return BaselineOutput(response=text.strip(), labels={}, well_formed=False)
        response = match["response"].strip()
        labels: dict[str, str] = {Label.STRATEGY: match["strategy"].strip()}
        return BaselineOutput(response=response, labels=labels, well_formed=bool(response))

    def special_tokens(self, examples: Sequence[SupportExample]) -> tuple[str, ...]:
        return tuple(sorted({_token(Label.STRATEGY.of(example)) for example in examples}))

    def render_turn(self, turn: Utterance) -> str:
        if turn.speaker == "supporter" and turn.strategies:
            return f"{_token(turn.strategies[0])} {turn.text}"
        return turn.text


def _token(strategy: str) -> str:
    return f"[{strategy}]"
