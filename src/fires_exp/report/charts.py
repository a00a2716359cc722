"""Which figures the page draws, and from which rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from fires_exp.metrics.thoughts import aspect_shares
from fires_exp.report.plots import Line, curves, finite, stacked_shares
from fires_exp.thinking.thought import Thought, parse_thought
from fires_exp.training.loggers.panels import CHARTS, POLICY_NAMES

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """A figure with its caption; `stage` groups learning curves and is empty elsewhere."""

    title: str
    note: str
    svg: Markup
    stage: str = ""


def learning_curves(rows: Rows) -> tuple[Drawing, ...]:
    """The charts for which something was logged; values that are no finite numbers are left out."""
    drawn = []
    for number, plan in enumerate(CHARTS):
        lines = []
        for metric, name in plan.metrics.items():
            points = [(row["step"], row[metric]) for row in rows if row["stage"] == plan.stage and finite(row.get(metric))]
            if points:
                steps, values = zip(*points, strict=True)
                lines.append(Line(name=name, steps=steps, values=values, smooth=metric in plan.smooth))
        if lines:
            svg = curves(f"{plan.stage.upper()}, {plan.title}", lines, ident=f"c{number}", percent=plan.percent)
            drawn.append(Drawing(title=plan.title, note=plan.note, svg=as_markup(svg), stage=plan.stage))
    return tuple(drawn)


def share_figures(
    teacher: Sequence[Thought], teacher_shares: Mapping[str, Mapping[str, float]], policies: Mapping[str, Rows], *, ident: str
) -> tuple[Drawing, ...]:
    """Figure 3 for the teacher's thoughts (or, without them, for the shares that the table kept of them), and the same for the
    thoughts of each policy's well-formed answers. `ident` begins the ids."""
    of_teacher = _by_label(aspect_shares(teacher)) or dict(teacher_shares)
    drawn = []
    if of_teacher:
        note = f"{len(teacher)} thoughts to learn from" if teacher else "thoughts to learn from"
        svg = stacked_shares("Teacher", of_teacher, ident=f"{ident}-teacher", legend=False)
        drawn.append(Drawing(title="teacher", note=note, svg=as_markup(svg)))
    for number, (policy, rows) in enumerate(policies.items()):
        said = [parse_thought(row["thought"]) for row in rows if row["well_formed"] and row["thought"]]
        if said:
            title = POLICY_NAMES.get(policy, policy)
            svg = stacked_shares(title, _by_label(aspect_shares(said)), ident=f"{ident}{number}", legend=False)
            drawn.append(
                Drawing(title=title, note=f"{len(said)} well-formed thoughts of {len(rows)} answers", svg=as_markup(svg))
            )
    return tuple(drawn)


def _by_label(shares: Mapping[Any, Mapping[Any, float]]) -> dict[str, Mapping[str, float]]:
    return {aspect.label: of_aspect for aspect, of_aspect in shares.items()}


def as_markup(svg: str) -> Markup:
    """Drawn by `figures`, which escapes what it is told."""
    return Markup(svg)  # noqa: S704
