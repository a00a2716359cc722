"""What a study is made of. Raters see sides `A` and `B`; which system stands behind a side is in the key alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from fires_exp.data.records import Role

Side = Literal["A", "B"]
Verdict = Literal["A", "B", "tie"]
Place = Literal["first", "second"]  # of a system on the command line; wins are those of the first
Outcome = Literal["win", "tie", "lose"]

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
PLACES: tuple[Place, ...] = get_args(Place)
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """One comparison that a rater makes; `about` says what is compared."""

    name: str
    about: Literal["response", "thought"]
    text: str


# after the paper's Appendix C
QUESTIONS = (
    Question(name="support", about="response", text="Which response supports the seeker better and gets further?"),
    Question(name="preference", about="response", text="Which response would you rather hear in the seeker's place?"),
    Question(name="coherence", about="thought", text="Which thinking is more logical and closer to this conversation?"),
    Question(name="usefulness", about="thought", text="Which thinking does more for the response that follows from it?"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownTurn:
    """A turn of the history with its frames as JPEG files."""

    speaker: Role
    text: str
    frames: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownAnswer:
    """What a rater sees of one system on one side; `thought` is empty where there was none."""

    response: str
    thought: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One instance under a name that tells nothing, e.g. `i007`."""

    name: str
    history: tuple[ShownTurn, ...]
    answers: Mapping[Side, ShownAnswer]


@dataclass(frozen=True, kw_only=True, slots=True)
class Study:
    """All that raters see. `id` is 12 hex digits that change with any of it."""

    id: str
    questions: tuple[Question, ...]
    items: tuple[Item, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyItem:
    """Which instance an item is, and which system stands on its side A."""

    instance: str
    side_a: Place


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """What unblinds a study; never sent to raters. `systems` are names by place."""

    study: str
    seed: int
    systems: Mapping[Place, str]
    files: Mapping[Place, str]
    questions: tuple[str, ...]
    items: Mapping[str, KeyItem]

    def outcome(self, item: str, verdict: Verdict) -> Outcome:
        """What a verdict says of the first system."""
        if verdict == "tie":
            return "tie"
        chosen_is_first = (verdict == "A") == (self.items[item].side_a == "first")
        return "win" if chosen_is_first else "lose"
