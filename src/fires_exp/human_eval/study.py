"""The records of a study. Raters see sides `A` and `B`; only the key has the system of each side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from fires_exp.data.records import Role

Side = Literal["A", "B"]
Verdict = Literal["A", "B", "tie"]
Position = Literal["first", "second"]  # of a system on the command line; a win is a win of the first
Outcome = Literal["win", "tie", "lose"]

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
POSITIONS: tuple[Position, ...] = get_args(Position)
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass(frozen=True, kw_only=True, slots=True)
class RaterQuestion:
    """A question about each pair of answers; `about` is the compared part."""

    name: str
    about: Literal["response", "thought"]
    text: str


# after the paper's Appendix C
QUESTIONS = (
    RaterQuestion(name="support", about="response", text="Which response supports the seeker better and gets further?"),
    RaterQuestion(name="preference", about="response", text="Which response would you rather hear in the seeker's place?"),
    RaterQuestion(name="coherence", about="thought", text="Which thinking is more logical and closer to this conversation?"),
    RaterQuestion(name="usefulness", about="thought", text="Which thinking does more for the response that follows from it?"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownTurn:
    """A turn of the history; its frames are JPEG files."""

    speaker: Role
    text: str
    frames: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownAnswer:
    """The answer of a system as a rater sees it; `thought` is empty without one."""

    response: str
    thought: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """An instance under a name that does not identify it, e.g. `i007`."""

    name: str
    history: tuple[ShownTurn, ...]
    answers: Mapping[Side, ShownAnswer]


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """Everything that raters see. `id` is 12 hex digits of a hash over the items."""

    id: str
    questions: tuple[RaterQuestion, ...]
    items: tuple[Item, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyItem:
    """The instance behind an item, and the system on its side A."""

    instance: str
    side_a: Position


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """The key that unblinds a study; never sent to raters. `systems` and `files` are by position."""

    study: str
    seed: int
    systems: Mapping[Position, str]
    files: Mapping[Position, str]
    questions: tuple[str, ...]
    items: Mapping[str, KeyItem]

    def outcome(self, item: str, verdict: Verdict) -> Outcome:
        """The outcome of a verdict for the first system."""
        if verdict == "tie":
            return "tie"
        chosen_is_first = (verdict == "A") == (self.items[item].side_a == "first")
        return "win" if chosen_is_first else "lose"
