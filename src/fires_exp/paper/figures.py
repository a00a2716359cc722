"""Figures: aspects of thoughts, human wins, numbers over the size of the cold start, training by weight of the KL term."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fires_exp.human_eval.results import StudyResult
from fires_exp.human_eval.tables import outcome_rates
from fires_exp.paper.runs import Run
from fires_exp.paper.table import ExperimentTable, TableRow
from fires_exp.report.charts import Plot, as_markup, share_plots
from fires_exp.report.plots import (
    COLORS,
    Curve,
    MeasuredPoint,
    curves_over_steps,
    finite,
    points_with_intervals,
    stacked_outcomes,
)
from fires_exp.storage.run_files import read_rows
from fires_exp.thinking.aspects import Aspect
from fires_exp.training.loggers.panels import CHARTS

# what is drawn of training where rows differ in the weight of the KL term: what rises or falls when a policy collapses
COLLAPSE = ("reward/total", "grpo/kl", "health/unknown_situation", "health/one_response", "rollout/completion_tokens_mean")


@dataclass(frozen=True, kw_only=True, slots=True)
class Gallery:
    """Figures below one heading; `legend` names whose colors need one: shares or nothing."""

    title: str
    note: str
    legend: str
    plots: tuple[Plot, ...]


def galleries(table: ExperimentTable, ident: str) -> tuple[Gallery, ...]:
    """Those for which the runs left something; `ident` begins the ids in them."""
    rows = [row for row in table.rows if row.runs]
    made = []
    if _differ(rows, _fraction):
        note = "Bars are the cells' intervals or deviations."
        sizes = _over_size(table, f"{ident}f")
        made.append(Gallery(title="Over the size of the cold start", note=note, legend="", plots=sizes))
    if _differ(rows, _beta):
        made.append(
            Gallery(
                title="Training by weight of the KL term",
                note="Means over seeds at steps that all of them logged.",
                legend="",
                plots=_by_row(rows, f"{ident}b"),
            )
        )
    shares = _shares(rows, f"{ident}s")
    if shares:
        made.append(
            Gallery(
                title="Aspects of thoughts",
                note="In how many of 100 thoughts an aspect is included, called “neutral” or “unknown”, or omitted; first seed.",
                legend="shares",
                plots=shares,
            )
        )
    return tuple(made)


def human_wins(studies: Sequence[StudyResult], ident: str) -> Gallery | None:
    """Figure 5: one chart a question and first system, a bar a system that it was compared with."""
    found: dict[tuple[str, str], list[StudyResult]] = {}
    for study in studies:
        for of in study.questions:
            found.setdefault((of.question, study.first), []).append(study)
    plots = []
    for place, ((question, first), of_both) in enumerate(found.items()):
        bars = {study.second: outcome_rates(study, question) for study in of_both}
        svg = stacked_outcomes(f"{first}, {question}", bars, ident=f"{ident}{place}")
        plots.append(Plot(title=question, note=f"{first} against others, % of instances", svg=as_markup(svg)))
    if not plots:
        return None
    return Gallery(title="Human evaluation", note="Win: the first system was preferred.", legend="", plots=tuple(plots))


def _differ(rows: Sequence[TableRow], leaf: Callable[[Run], float | None]) -> bool:
    """Whether every row has its own value of a leaf, and there are two at least."""
    values = [leaf(row.runs[0]) for row in rows]
    return len(values) > 1 and None not in values and len(set(values)) == len(values)


def _fraction(run: Run) -> float | None:
    return _number_of(run.config.get("sft"), "fraction")


def _beta(run: Run) -> float | None:
    return _number_of(run.config.get("grpo"), "beta")


def _number_of(group: Mapping[str, Any] | None, leaf: str) -> float | None:
    value = (group or {}).get(leaf)
    return float(value) if isinstance(value, int | float) else None


def _over_size(table: ExperimentTable, ident: str) -> tuple[Plot, ...]:
    """Figure 7: a chart a column."""
    plots = []
    for place, column in enumerate(table.columns):
        measured = []
        for row in table.rows:
            cell, fraction = row.cells[place], _fraction(row.runs[0]) if row.runs else None
            if cell.value is not None and fraction is not None:
                low, high = (cell.value if end is None else end for end in (cell.low, cell.high))
                measured.append(MeasuredPoint(x=100 * fraction, value=cell.value, low=low, high=high))
        if len(measured) > 1:
            measured.sort(key=lambda point: point.x)
            svg = points_with_intervals(column.name, measured, axis="% of the cold start's data", ident=f"{ident}{place}")
            plots.append(Plot(title=f"{column.name} {column.arrow}", note="", svg=as_markup(svg)))
    return tuple(plots)


def _by_row(rows: Sequence[TableRow], ident: str) -> tuple[Plot, ...]:
    """A chart a metric with a line a row, four rows a chart."""
    logged = {row.name: [_grpo_steps(run) for run in row.runs] for row in rows}
    plots: list[Plot] = []
    for metric in COLLAPSE:
        plan = next(plan for plan in CHARTS if metric in plan.metrics and plan.stage == "grpo")
        title = f"{plan.title}: {plan.metrics[metric]}" if len(plan.metrics) > 1 else plan.title
        means = {name: _mean(of, metric) for name, of in logged.items()}
        lines = [Curve(name=name, steps=list(mean), values=list(mean.values())) for name, mean in means.items() if mean]
        absent = ", ".join(name for name, mean in means.items() if not mean)
        notes = ["" if len(plan.metrics) > 1 else plan.note, f"not measured: {absent}" if absent else ""]
        note = "; ".join(filter(None, notes))
        for start in range(0, len(lines), len(COLORS)):
            some = lines[start : start + len(COLORS)]
            svg = curves_over_steps(title, some, ident=f"{ident}{len(plots)}", percent=plan.percent)
            plots.append(Plot(title=title, note=note, svg=as_markup(svg)))
    return tuple(plots)


def _grpo_steps(run: Run) -> dict[float, dict[str, Any]]:
    return {row["step"]: row for row in read_rows(run.folder / "metrics.jsonl") if row["stage"] == "grpo"}


def _mean(seeds: Sequence[Mapping[float, Mapping[str, Any]]], metric: str) -> dict[float, float]:
    steps = [step for step in seeds[0] if all(finite(of.get(step, {}).get(metric)) for of in seeds)]
    return {step: statistics.fmean(of[step][metric] for of in seeds) for step in steps}


def _shares(rows: Sequence[TableRow], ident: str) -> tuple[Plot, ...]:
    """The teacher's, as the first table that kept them has them, and each row's."""
    kept = (run.table["teacher_aspect_shares"] for row in rows for run in row.runs if "teacher_aspect_shares" in run.table)
    teacher: Mapping[str, Mapping[str, float]] = next(kept, {})
    labeled = {Aspect(name).label: shares for name, shares in teacher.items()}
    answers = {row.name: [said for said in row.runs[0].predictions if "thought" in said] for row in rows}
    return share_plots((), labeled, answers, ident=ident)
