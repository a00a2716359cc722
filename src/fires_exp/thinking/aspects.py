"""The four aspects of a thought, and the plans that select among them (paper, 3.2 and 4.3)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from fires_exp.config.model import PlanKind


class Aspect(StrEnum):
    """One aspect; the value is its key in files, `label` its name in a thought. Members are in the paper's order."""

    VISUAL_SCENE = "visual_scene"
    EMOTION = "emotion"
    SITUATION = "situation"
    RESPONSE_STRATEGY = "response_strategy"

    @property
    def label(self) -> str:
        return self.value.replace("_", " ").title()


@dataclass(frozen=True, kw_only=True, slots=True)
class ThinkingPlan:
    """The content of a thought.

    - `flexible`: those of `aspects` that help this reply, without the others
    - `fixed`: each of `aspects`, always
    - `free`: prose that names no aspect (w/o All); `aspects` is empty
    - `none`: no thought: the completion is the response; `aspects` is empty
    """

    kind: PlanKind
    aspects: tuple[Aspect, ...]

    @property
    def thinks(self) -> bool:
        return self.kind != "none"
