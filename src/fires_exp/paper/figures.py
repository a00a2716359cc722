"""Figures over the runs of a table: aspects of thoughts, human preferences, size of the cold start, weight of the KL term."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
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

# drawn where rows differ in the weight of the KL term: these rise or fall when a policy collapses
COLLAPSE_METRICS = (
    "reward/total",
    "grpo/kl",
    "health/unknown_situation",
    "health/one_response",
    "rollout/completion_tokens_mean",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Gallery:
    """Figures below one heading; `legend` is "shares" where the colors of shares need a legend, else empty."""

    title: str
    note: str
    legend: str
    plots: tuple[Plot, ...]


def galleries(table: ExperimentTable, ident: str) -> tuple[Gallery, ...]:
    """The galleries for which the runs have data; `ident` is the prefix of the ids in them."""
    rows = [row for row in table.rows if row.runs]
    result = []
    if _differ(rows, _fraction):
        note = "Error bars are the cells' intervals or deviations."
        sizes = _over_size(table, f"{ident}f")
        result.append(Gallery(title="Over the size of the cold start", note=note, legend="", plots=sizes))
    if _differ(rows, _beta):
        result.append(
            Gallery(
                title="Training by weight of the KL term",
                note="Means over seeds, at the steps that all seeds logged.",
                legend="",
                plots=_by_row(rows, f"{ident}b"),
            )
        )
    shares = _shares(rows, f"{ident}s")
    if shares:
        result.append(
            Gallery(
                title="Aspects of thoughts",
                note="% of thoughts that include an aspect, call it “neutral” (emotion) or “unknown”, or omit it; first seed.",
                legend="shares",
                plots=shares,
            )
        )
    return tuple(result)


def human_wins(studies: Sequence[StudyResult], ident: str) -> Gallery | None:
    """Figure 5: a chart for each question and first system, with a bar for each system that it was compared with."""
    by_chart: dict[tuple[str, str], list[StudyResult]] = {}
    for study in studies:
        for result in study.questions:
            by_chart.setdefault((result.question, study.first), []).append(study)
    plots = []
    for number, ((question, first), compared) in enumerate(by_chart.items()):
        bars = {study.second: outcome_rates(study, question) for study in compared}
        svg = stacked_outcomes(f"{first}, {question}", bars, ident=f"{ident}{number}")
        plots.append(Plot(title=question, note=f"{first} against others, % of instances", svg=as_markup(svg)))
    if not plots:
        return None
    return Gallery(title="Human evaluation", note="Win: raters preferred the first system.", legend="", plots=tuple(plots))


def _differ(rows: Sequence[TableRow], leaf: Callable[[Run], float | None]) -> bool:
    """Whether there are at least two rows and each has a different value of this configuration leaf."""
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
    """Figure 7: a chart for each column."""
    plots = []
    for index, column in enumerate(table.columns):
        points = []
        for row in table.rows:
            cell, fraction = row.cells[index], _fraction(row.runs[0]) if row.runs else None
            if cell.value is not None and fraction is not None:
                low, high = (cell.value if end is None else end for end in (cell.low, cell.high))
                points.append(MeasuredPoint(x=100 * fraction, value=cell.value, low=low, high=high))
        if len(points) > 1:
            points.sort(key=lambda point: point.x)
            svg = points_with_intervals(column.name, points, axis="% of the cold start's data", ident=f"{ident}{index}")
            plots.append(Plot(title=f"{column.name} {column.arrow}", note="", svg=as_markup(svg)))
    return tuple(plots)


def _by_row(rows: Sequence[TableRow], ident: str) -> tuple[Plot, ...]:
    """Charts for each metric with a curve for each row, at most as many curves in a chart as there are colors."""
    plots: list[Plot] = []
    logged = lru_cache(_logged)  # a run's file is read once for all metrics
    for metric in COLLAPSE_METRICS:
        plan = next(plan for plan in CHARTS if metric in plan.metrics)
        title = f"{plan.title}: {plan.metrics[metric]}" if len(plan.metrics) > 1 else plan.title
        means = {row.name: _mean([logged(run.folder, plan.stage) for run in row.runs], metric) for row in rows}
        curves = [Curve(name=name, steps=list(mean), values=list(mean.values())) for name, mean in means.items() if mean]
        absent = ", ".join(name for name, mean in means.items() if not mean)
        notes = ["" if len(plan.metrics) > 1 else plan.note, f"not measured: {absent}" if absent else ""]
        note = "; ".join(filter(None, notes))
        for start in range(0, len(curves), len(COLORS)):
            chunk = curves[start : start + len(COLORS)]
            svg = curves_over_steps(title, chunk, ident=f"{ident}{len(plots)}", percent=plan.percent)
            plots.append(Plot(title=title, note=note, svg=as_markup(svg)))
    return tuple(plots)


def _logged(run_folder: Path, stage: str) -> dict[float, dict[str, Any]]:
    """What a stage logged, by step."""
    return {row["step"]: row for row in read_rows(run_folder / "metrics.jsonl") if row["stage"] == stage}


def _mean(seeds: Sequence[Mapping[float, Mapping[str, Any]]], metric: str) -> dict[float, float]:
    """The mean over seeds by step, at the steps where every seed logged the metric."""
    steps = [step for step in seeds[0] if all(finite(seed.get(step, {}).get(metric)) for seed in seeds)]
    return {step: statistics.fmean(seed[step][metric] for seed in seeds) for step in steps}


def _shares(rows: Sequence[TableRow], ident: str) -> tuple[Plot, ...]:
    """The teacher's shares, from the first table that has them, and those of each row."""
    tables = (run.table["teacher_aspect_shares"] for row in rows for run in row.runs if "teacher_aspect_shares" in run.table)
    teacher: Mapping[str, Mapping[str, float]] = next(tables, {})
    labeled = {Aspect(name).label: shares for name, shares in teacher.items()}
    answers = {row.name: [answer for answer in row.runs[0].predictions if "thought" in answer] for row in rows}
    return share_plots((), labeled, answers, ident=ident)
