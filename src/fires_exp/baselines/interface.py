"""What a trained baseline consists of: the text that it learns to write, how a written text is parsed, and its hint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from fires_exp.baselines.labels import Label
from fires_exp.data.records import SupportExample, Utterance


@dataclass(frozen=True, kw_only=True, slots=True)
class Hint:
    """A question to a vision-language model about the history, before the baseline reads it. The response is shown to the
    baseline in brackets after the turn that it is about.

    - `turn`: about each seeker turn with frames, given these frames
    - `conversation`: about the whole history, given its text alone; the response follows the last turn
    """

    about: Literal["turn", "conversation"]
    question: str


@dataclass(frozen=True, kw_only=True, slots=True)
class BaselineOutput:
    """A baseline's text, parsed: the response, and the predicted labels by name. The response of a malformed text is the
    readable rest of it."""

    response: str
    labels: Mapping[str, str]
    well_formed: bool


class TrainedBaseline(ABC):
    """One baseline. `instruction` is the system message where it is trained on a decoder; `required_labels` are the labels that
    its text is made of; `hint` is None for a baseline that reads the history alone."""

    name: ClassVar[str]
    instruction: ClassVar[str]
    required_labels: ClassVar[tuple[Label, ...]]
    hint: ClassVar[Hint | None]

    @abstractmethod
    def target_text(self, example: SupportExample) -> str:
        """The text that it learns to write for an instance."""

    @abstractmethod
    def parse(self, text: str) -> BaselineOutput:
        """The inverse of `target_text`, for any text that a model writes."""

    @abstractmethod
    def special_tokens(self, examples: Sequence[SupportExample]) -> tuple[str, ...]:
        """Parts of its target texts for `examples` that are one token each in the vocabulary of a sequence-to-sequence model."""

    def render_turn(self, turn: Utterance) -> str:
        """A turn of the history as the baseline reads it."""
        return turn.text

    def render_history(self, example: SupportExample, hints: Sequence[str]) -> list[str]:
        """The history, one line per turn; `hints` has one text per turn, empty for none."""
        return [
            f"{self.render_turn(turn)} ({hint})" if hint else self.render_turn(turn)
            for turn, hint in zip(example.history, hints, strict=True)
        ]
