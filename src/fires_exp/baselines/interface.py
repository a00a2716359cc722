"""What a trained baseline is: the text that it learns to write, how a response is read back, and what it is told beforehand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from fires_exp.baselines.labels import Label
from fires_exp.data.records import SupportExample, Utterance


@dataclass(frozen=True, kw_only=True, slots=True)
class Hint:
    """What a vision-language model is asked beforehand. Its answer stands after the turn that it is about, in brackets.

    - `turn`: asked about each seeker turn that shows frames, with these frames
    - `conversation`: asked about a whole history, by text alone; the answer stands after the last turn
    """

    about: Literal["turn", "conversation"]
    question: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What was read out of a baseline's text: `said` has its labels by name. The response of a malformed text is what is left of
    it for a reader."""

    response: str
    said: Mapping[str, str]
    well_formed: bool


class TrainedBaseline(ABC):
    """One baseline. `instruction` is the system message where it is trained on a decoder; `needs` are the labels that its text is
    made of, `hint` what it is told beforehand."""

    name: ClassVar[str]
    instruction: ClassVar[str]
    needs: ClassVar[tuple[Label, ...]]
    hint: ClassVar[Hint | None]

    @abstractmethod
    def target(self, example: SupportExample) -> str:
        """The text that it learns to write for an instance."""

    @abstractmethod
    def read(self, text: str) -> Reading:
        """Its text, read back."""

    @abstractmethod
    def marks(self, examples: Sequence[SupportExample]) -> tuple[str, ...]:
        """Pieces of its texts for `examples` that are one token each in the vocabulary of a sequence-to-sequence model."""

    def turn(self, turn: Utterance) -> str:
        """A turn of the history as it is shown."""
        return turn.text

    def lines(self, example: SupportExample, hints: Sequence[str]) -> list[str]:
        """The history, one line a turn; `hints` has one text a turn, empty for none."""
        return [
            f"{self.turn(turn)} ({hint})" if hint else self.turn(turn) for turn, hint in zip(example.history, hints, strict=True)
        ]
