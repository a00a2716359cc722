"""Levels of the three communication mechanisms of empathy, and the difference of two responses' levels (Eq. 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

LEVELS = (0, 1, 2)

# plain texts; the context is the last seeker turn
ContextAndResponse = tuple[str, str]


class SkillLevels(NamedTuple):
    """Of each mechanism: 0 no, 1 weak, 2 strong communication.

    >>> SkillLevels(emotional_reactions=0, interpretations=2, explorations=1)
    SkillLevels(emotional_reactions=0, interpretations=2, explorations=1)
    """

    emotional_reactions: int
    interpretations: int
    explorations: int


MECHANISMS = SkillLevels._fields


class SupportSkillScorer(Protocol):
    """Reads EPITOME levels. A failure to score is an exception, never a level."""

    @property
    def name(self) -> str:
        """The name in reports, which includes the training data."""
        ...

    @property
    def version(self) -> str:
        """A short hash of its weights."""
        ...

    def levels(self, pairs: Sequence[ContextAndResponse]) -> list[SkillLevels]:
        """The levels of each (context, response), in order, independent of the other pairs."""
        ...


def squared_differences(reference: SkillLevels, response: SkillLevels) -> tuple[int, int, int]:
    """(l_reference - l_response)^2 of each mechanism; each is 0, 1 or 4."""
    first, second, third = ((a - b) ** 2 for a, b in zip(reference, response, strict=True))
    return first, second, third


def diff_epitome(reference: SkillLevels, response: SkillLevels) -> float:
    """DE: the mean of the three squared differences (Eq. 4), in [0, 4]."""
    return sum(squared_differences(reference, response)) / len(MECHANISMS)
