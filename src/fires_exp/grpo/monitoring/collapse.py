"""The stop rule: GRPO stops when a sign of `health` is at or beyond its threshold for several consecutive steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fires_exp.config.training import StopConfig
from fires_exp.grpo.monitoring.health import DECIMALS, Sign


@dataclass(frozen=True, kw_only=True, slots=True)
class Collapse:
    """`sign` was at or beyond `threshold` for `patience_steps` consecutive steps, the last of which is `step` (from 1) with
    `value`.

    >>> print(Collapse(sign=Sign.ONE_RESPONSE, value=0.75, threshold=0.5, step=14, patience_steps=5))
    health/one_response was 0.5 or more for 5 steps in a row, 0.75 at step 14
    """

    sign: Sign
    value: float
    threshold: float
    step: int
    patience_steps: int

    def __str__(self) -> str:
        bound = f"{self.threshold:g} or {'less' if self.sign.falls else 'more'}"
        steps = f"{self.patience_steps} steps in a row" if self.patience_steps > 1 else "one step"
        return f"{self.sign.logged} was {bound} for {steps}, {self.value:g} at step {self.step}"


def signs_beyond(logged: Mapping[str, float], stop: StopConfig) -> list[Sign]:
    """The signs of one step that are at or beyond their threshold. A sign that was not logged does not count."""
    beyond = []
    for sign in Sign:
        threshold, value = getattr(stop, sign), logged.get(sign.logged)
        if threshold is not None and value is not None:
            value = round(value, DECIMALS)
            if value <= threshold if sign.falls else value >= threshold:
                beyond.append(sign)
    return beyond


def first_collapse(history: Sequence[Mapping[str, float]], stop: StopConfig) -> Collapse | None:
    """The first collapse in the logged metrics of consecutive steps, or None. It depends on logged metrics only, so the result is
    the same during a run, after a resume and for a finished run."""
    streaks = dict.fromkeys(Sign, 0)
    for step, logged in enumerate(history, start=1):
        beyond = signs_beyond(logged, stop)
        streaks = {sign: streaks[sign] + 1 if sign in beyond else 0 for sign in Sign}
        for sign in beyond:
            if streaks[sign] >= stop.patience_steps:
                return Collapse(
                    sign=sign,
                    value=round(logged[sign.logged], DECIMALS),
                    threshold=getattr(stop, sign),
                    step=step,
                    patience_steps=stop.patience_steps,
                )
    return None
