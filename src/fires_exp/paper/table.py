"""A table of the paper with our cells: means over seeds, intervals, the best and the second best, significant differences."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fires_exp.errors import ReportError
from fires_exp.paper.runs import RowRuns, Run, read_row
from fires_exp.paper.significance import PairedBootstrap
from fires_exp.paper.spec import METRICS, Experiment
from fires_exp.report.tables import ARROWS

LEVELS = (0.01, 0.05)  # p-values below which a cell has two marks or one
DECIMALS = {"DIFF-E": 4}  # as in the paper; two for other columns
BERTSCORE = "F_BERT"
NOT_BERTSCORE = "(not BERTScore)"  # end of the name of a score by another encoder
FULL = "fires"  # the experiment whose row the others are compared with by default


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultCell:
    """Our number with its interval from `low` to `high`: over instances or, with several seeds, one standard deviation on both
    sides. `text` and `scatter` are the two as printed, empty without a number; `paper` is the printed cell, empty without one.
    `rank` is best, second or empty, `marks` 0, 1 or 2; `p` is None where nothing was compared."""

    value: float | None
    low: float | None
    high: float | None
    text: str
    scatter: str
    rank: str
    marks: int
    p: float | None
    paper: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """`name` is the paper's name of the column, `metric` ours."""

    name: str
    metric: str
    direction: str

    @property
    def arrow(self) -> str:
        return ARROWS[self.direction]


@dataclass(frozen=True, kw_only=True, slots=True)
class TableRow:
    """`cells` has one cell for each column; `missing` has a sentence for each missing run."""

    name: str
    cells: tuple[ResultCell, ...]
    runs: tuple[Run, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentTable:
    """`against` is the row that the others are compared with, empty without one; `notes` are sentences below the table."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    against: str
    notes: tuple[str, ...]

    @property
    def runs(self) -> tuple[Run, ...]:
        return tuple(run for row in self.rows for run in row.runs)


def make_table(experiment: Experiment, scale_folder: Path, against: str | None) -> ExperimentTable:
    """The table over the runs of a scale folder. Raises `ReportError` where `against` is no row of it."""
    rows = [read_row(scale_folder, row) for row in experiment.rows]
    columns = _columns(experiment, rows)
    base = _base(rows, against, experiment.name)
    bootstrap = PairedBootstrap(against=base.runs if base else ())
    ranks = [_ranks(column, rows) for column in columns]
    not_compared: dict[str, str] = {}
    table_rows = []
    for index, row in enumerate(rows):
        p_values = bootstrap.p_values(row.runs) if row.runs and base and row is not base else {}
        if isinstance(p_values, str):
            not_compared[row.row.name] = p_values
            p_values = {}
        cells = (_cell(column, row, names[index], p_values) for column, names in zip(columns, ranks, strict=True))
        table_rows.append(TableRow(name=row.row.name, cells=tuple(cells), runs=row.runs, missing=row.missing))
    name = base.row.name if base and len([row for row in rows if row.runs]) > 1 else ""
    return ExperimentTable(
        name=experiment.name,
        title=experiment.title,
        columns=columns,
        rows=tuple(table_rows),
        against=name,
        notes=_notes(rows, name, not_compared),
    )


def _columns(experiment: Experiment, rows: Sequence[RowRuns]) -> tuple[Column, ...]:
    """The paper's columns, and after F_BERT the scores of other encoders used in its place, whose scale differs."""
    measured = {name: metric["direction"] for row in rows for run in row.runs for name, metric in run.metrics.items()}
    columns = []
    for name in experiment.columns:
        metric = METRICS[name]
        columns.append(Column(name=name, metric=metric, direction="lower" if name == "DIFF-E" else "higher"))
        if name == BERTSCORE:
            stand_ins = (other for other in measured if other.endswith(NOT_BERTSCORE))
            columns += [Column(name=other, metric=other, direction=measured[other]) for other in stand_ins]
    return tuple(columns)


def _base(rows: Sequence[RowRuns], against: str | None, experiment: str) -> RowRuns | None:
    if against is not None:
        base = next((row for row in rows if row.row.name == against), None)
        if base is None:
            raise ReportError(
                f"--against {against!r}: no row of {experiment}; write one of {', '.join(row.row.name for row in rows)}"
            )
        return base
    with_runs = [row for row in rows if row.runs]
    # a row that shows an earlier policy of the same run is not the full method
    full = [row for row in with_runs if row.row.experiment == FULL and row.row.policy is None]
    return next(iter(full or with_runs), None)


def _ranks(column: Column, rows: Sequence[RowRuns]) -> list[str]:
    """The rank of each row: best, second or empty. Values that are printed alike have the same rank; a single value has none."""
    means = [_mean(row.runs, column.metric) for row in rows]
    printed = [None if value is None else float(_number(column, value)) for value in means]
    ordered = sorted({value for value in printed if value is not None}, reverse=column.direction == "higher")
    if len(ordered) < 2:
        return [""] * len(rows)
    names = {ordered[0]: "best"}
    if len(ordered) > 2:
        names[ordered[1]] = "second"
    return ["" if value is None else names.get(value, "") for value in printed]


def _cell(column: Column, row: RowRuns, rank: str, p_values: Mapping[str, float]) -> ResultCell:
    paper = row.row.paper.get(column.name, "")
    metrics = [run.metrics[column.metric] for run in row.runs if column.metric in run.metrics]
    value = _mean(row.runs, column.metric)
    if value is None:
        return ResultCell(value=None, low=None, high=None, text="", scatter="", rank="", marks=0, p=None, paper=paper)
    if len(metrics) > 1:
        deviation = statistics.stdev(metric["value"] for metric in metrics)
        low, high = value - deviation, value + deviation
        scatter = f"± {_number(column, deviation)}"
    else:
        low, high = metrics[0].get("low"), metrics[0].get("high")
        scatter = "" if low is None or high is None else f"[{_number(column, low)}, {_number(column, high)}]"
    p = p_values.get(column.metric)
    return ResultCell(
        value=value,
        low=low,
        high=high,
        text=_number(column, value),
        scatter=scatter,
        rank=rank,
        marks=0 if p is None else sum(p < level for level in LEVELS),
        p=p,
        paper=paper,
    )


def _mean(runs: Sequence[Run], metric: str) -> float | None:
    """The mean over the runs that have the metric; None where none has."""
    values = [run.metrics[metric]["value"] for run in runs if metric in run.metrics]
    return statistics.fmean(values) if values else None


def _number(column: Column, value: float) -> str:
    return f"{value:.{DECIMALS.get(column.name, 2)}f}"


def _notes(rows: Sequence[RowRuns], against: str, not_compared: Mapping[str, str]) -> tuple[str, ...]:
    """Sentences that explain the cells."""
    finished = [run for row in rows for run in row.runs]
    if not finished:
        return ()
    table = finished[0].table
    notes = []
    if any(len(row.runs) > 1 for row in rows):
        counts = sorted({len(row.runs) for row in rows if len(row.runs) > 1})
        notes.append(f"±: standard deviation over {' or '.join(map(str, counts))} seeds.")
    if any(len(row.runs) == 1 for row in rows) and "confidence" in table:
        notes.append(
            f"[low, high]: {100 * table['confidence']:g} % interval over instances, {table['bootstrap_samples']} resamples."
        )
    if against:
        notes.append(
            f"† p < {LEVELS[1]}, ‡ p < {LEVELS[0]}: differs from {against} by the paired bootstrap over instances, two-sided, "
            "seeds in pairs, not corrected for the number of comparisons."
        )
    notes += [f"{name} is not compared: {reason}." for name, reason in not_compared.items()]
    absent = {(metric["name"], metric["reason"]) for run in finished for metric in run.table.get("absent", ())}
    notes += [f"{name} is missing: {reason}" for name, reason in sorted(absent)]
    return tuple(notes)
