"""A thought: named aspects, or free prose, and its text form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fires_exp.thinking.aspects import Aspect

AspectStatus = Literal["included", "omitted", "neutral", "unknown"]

_LABEL = re.compile(r"(?:^|(?<=[\s.!?:]))(" + "|".join(aspect.label for aspect in Aspect) + r"):", re.IGNORECASE)
_BY_LABEL = {aspect.label.lower(): aspect for aspect in Aspect}


@dataclass(frozen=True, kw_only=True, slots=True)
class Thought:
    """The supporter's thinking before the response. A free thought has only `prose`.

    >>> print(Thought(aspects={Aspect.EMOTION: "sadness", Aspect.RESPONSE_STRATEGY: "I should ask what happened."}).text)
    Emotion: sadness
    Response Strategy: I should ask what happened.
    """

    aspects: Mapping[Aspect, str] = field(default_factory=dict)
    prose: str = ""

    @property
    def text(self) -> str:
        """Prose, if any, then one line per aspect in the paper's order."""
        lines = [f"{aspect.label}: {self.aspects[aspect]}" for aspect in Aspect if aspect in self.aspects]
        return "\n".join(([self.prose] if self.prose else []) + lines)

    def status(self, aspect: Aspect) -> AspectStatus:
        """The segment of Figure 3 that this aspect belongs to; the texts "neutral" and "unknown" have segments of their own."""
        if aspect not in self.aspects:
            return "omitted"
        words = self.aspects[aspect].lower().strip(" .")
        if aspect is Aspect.EMOTION and words == "neutral":
            return "neutral"
        if words == "unknown":
            return "unknown"
        return "included"


def parse_thought(text: str) -> Thought:
    """Parse a thought's text: an aspect's text begins after its name and a colon, anywhere; text before the first name is prose.

    Of a repeated name, the first text is used; an aspect without text, or with "Not helpful", is left out.
    """
    pieces = _LABEL.split(text)
    aspects: dict[Aspect, str] = {}
    for label, body in zip(pieces[1::2], pieces[2::2], strict=True):
        words = body.strip()
        if words and words.lower().strip(" .") != "not helpful":
            aspects.setdefault(_BY_LABEL[label.lower()], words)
    return Thought(aspects=aspects, prose=pieces[0].strip())
