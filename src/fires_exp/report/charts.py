"""The plots of a page, from the rows of a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from markupsafe import Markup

from fires_exp.metrics.thoughts import aspect_shares
from fires_exp.report.plots import Curve, curves_over_steps, finite, stacked_shares
from fires_exp.thinking.thought import Thought, parse_thought
from fires_exp.training.loggers.panels import CHARTS, POLICY_NAMES, ChartPlan, stage_type

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """A figure with its caption, as a page shows it."""

    title: str
    note: str
    svg: Markup


@dataclass(frozen=True, kw_only=True, slots=True)
class StagePlots:
    """The learning curves of a stage."""

    stage: str
    plots: tuple[Plot, ...]


def learning_curves(rows: Rows) -> tuple[StagePlots, ...]:
    """The charts of `panels.CHARTS` for which a stage logged values, by stage; values that are not finite are left out."""
    logged: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        logged.setdefault(stage_type(row["stage"]), []).append(row)
    by_stage: dict[str, list[Plot]] = {}
    for number, plan in enumerate(CHARTS):
        curves = _curves(plan, logged.get(plan.stage, []))
        if curves:
            by_stage.setdefault(plan.stage, []).append(Plot(title=plan.title, note=plan.note, svg=_drawn(number, curves)))
    return tuple(StagePlots(stage=stage, plots=tuple(plots)) for stage, plots in by_stage.items())


def _curves(plan: ChartPlan, rows: Rows) -> tuple[Curve, ...]:
    curves = []
    for metric, name in plan.metrics.items():
        points = [(row["step"], row[metric]) for row in rows if finite(row.get(metric))]
        if points:
            steps, values = zip(*points, strict=True)
            curves.append(Curve(name=name, steps=steps, values=values, smooth=metric in plan.smooth))
    return tuple(curves)


@lru_cache(maxsize=2 * len(CHARTS))
def _drawn(number: int, curves: tuple[Curve, ...]) -> Markup:
    """Drawing takes about a tenth of a second; while a run goes on, the charts of its finished stages are not drawn again."""
    plan = CHARTS[number]
    return as_markup(curves_over_steps(f"{plan.stage.upper()}, {plan.title}", curves, ident=f"c{number}", percent=plan.percent))


def share_plots(
    teacher: Sequence[Thought], teacher_shares: Mapping[str, Mapping[str, float]], policies: Mapping[str, Rows], *, ident: str
) -> tuple[Plot, ...]:
    """Figure 3 for the teacher's thoughts, and for the thoughts of each policy's well-formed completions.

    Without the thoughts themselves, the teacher's plot shows `teacher_shares`, shares by aspect label. `ident` is the prefix of
    the ids.
    """
    shares = _by_label(aspect_shares(teacher)) or dict(teacher_shares)
    plots = []
    if shares:
        note = f"{len(teacher)} thoughts for training" if teacher else "thoughts for training"
        svg = stacked_shares("Teacher", shares, ident=f"{ident}-teacher", legend=False)
        plots.append(Plot(title="teacher", note=note, svg=as_markup(svg)))
    for number, (policy, rows) in enumerate(policies.items()):
        thoughts = [parse_thought(row["thought"]) for row in rows if row["well_formed"] and row["thought"]]
        if thoughts:
            title = POLICY_NAMES.get(policy, policy)
            svg = stacked_shares(title, _by_label(aspect_shares(thoughts)), ident=f"{ident}{number}", legend=False)
            plots.append(
                Plot(title=title, note=f"{len(thoughts)} well-formed thoughts of {len(rows)} completions", svg=as_markup(svg))
            )
    return tuple(plots)


def _by_label(shares: Mapping[Any, Mapping[Any, float]]) -> dict[str, Mapping[str, float]]:
    return {aspect.label: of_aspect for aspect, of_aspect in shares.items()}


def as_markup(svg: str) -> Markup:
    """An SVG from `report.plots`, which escapes every text in it."""
    return Markup(svg)  # noqa: S704
