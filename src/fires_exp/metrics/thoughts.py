"""Which aspects thoughts name (Figure 3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import get_args

from fires_exp.thinking.aspects import Aspect
from fires_exp.thinking.thought import AspectStatus, Thought


def aspect_shares(thoughts: Sequence[Thought]) -> dict[Aspect, dict[AspectStatus, float]]:
    """For each aspect the share of thoughts that include it, omit it, call it neutral or unknown; the four add up to 1.
    Empty where there is no thought."""
    if not thoughts:
        return {}
    shares: dict[Aspect, dict[AspectStatus, float]] = {}
    for aspect in Aspect:
        counts = Counter(thought.status(aspect) for thought in thoughts)
        shares[aspect] = {status: counts[status] / len(thoughts) for status in get_args(AspectStatus)}
    return shares
