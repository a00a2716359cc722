"""How often thoughts include each aspect (Figure 3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import get_args

from fires_exp.thinking.aspects import Aspect
from fires_exp.thinking.thought import AspectStatus, Thought


def aspect_shares(thoughts: Sequence[Thought]) -> dict[Aspect, dict[AspectStatus, float]]:
    """For each aspect the share of thoughts of each status (included, omitted, neutral, unknown); the four sum to 1.

    Empty without thoughts.
    """
    if not thoughts:
        return {}
    shares: dict[Aspect, dict[AspectStatus, float]] = {}
    for aspect in Aspect:
        counts = Counter(thought.status(aspect) for thought in thoughts)
        shares[aspect] = {status: counts[status] / len(thoughts) for status in get_args(AspectStatus)}
    return shares
