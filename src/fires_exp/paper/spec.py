"""An experiment, `experiments/<name>/`: the rows of a table in order, and the cells that the paper printed.

`runs.yaml` lists {row, experiment} and, optionally, the `policy` of the run that the row shows (the last one otherwise).
`paper.csv`, which is optional, has the printed cells; it may have rows that no experiment computes.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fires_exp.errors import ReportError

RUNS = "runs.yaml"
PAPER = "paper.csv"
LEADING = ("row", "experiment")  # columns of paper.csv before the metrics

# the paper's columns and their names in our tables
METRICS = {
    "B-2": "BLEU-2",
    "R-L": "ROUGE-L (beta 1.2)",
    "METEOR": "METEOR",
    "F_BERT": "BERTScore F1",
    "Dist-3": "Distinct-3 (per response)",
    "DIFF-E": "DIFF-EPITOME",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A row of a table. `experiment` is None where only the paper has the row; `policy` is None for the last policy of a run;
    `paper` has the printed cells by column."""

    name: str
    experiment: str | None
    policy: str | None
    paper: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Experiment:
    """A table or figure. `columns` are the paper's columns; without printed cells, all of the paper's metrics.

    >>> row = Row(name="FIRES", experiment="fires", policy=None, paper={"B-2": "10.18"})
    >>> Experiment(name="table2", title="Table 2: …", rows=(row,), columns=("B-2",)).rows[0].paper["B-2"]
    '10.18'
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    columns: tuple[str, ...]


def is_experiment(folder: Path) -> bool:
    return (folder / RUNS).is_file()


def read_experiment(folder: Path) -> Experiment:
    """Raises `ReportError` where the folder has no runs.yaml, or its two files do not match."""
    runs = _runs(folder / RUNS)
    columns, printed = _paper(folder / PAPER)
    unprinted = [row.name for row in runs if printed and row.name not in printed]
    if unprinted:
        raise ReportError(f"{folder / PAPER}: no line for the row {unprinted[0]!r} of {RUNS}; add it (empty cells are allowed)")
    by_name = {row.name: row for row in runs}
    rows = (
        Row(
            name=name,
            experiment=by_name[name].experiment if name in by_name else None,
            policy=by_name[name].policy if name in by_name else None,
            paper=printed.get(name, {}),
        )
        for name in printed or by_name
    )
    return Experiment(name=folder.name, title=_title(folder), rows=tuple(rows), columns=columns or tuple(METRICS))


def _runs(path: Path) -> list[Row]:
    try:
        tree: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise ReportError(f"{path} is not there; name a folder of experiments/, or a run folder") from None
    except yaml.YAMLError as error:
        raise ReportError(f"{path}: no YAML ({' '.join(str(error).split())}); write - {{row: …, experiment: …}}") from None
    rows = []
    for number, entry in enumerate(tree if isinstance(tree, list) else [tree], start=1):
        if not isinstance(entry, dict) or not {"row", "experiment"} <= set(entry) <= {"row", "experiment", "policy"}:
            raise ReportError(f"{path}: entry {number} is {entry!r}; write - {{row: …, experiment: …}}, optionally with policy")
        texts = [entry["row"], entry["experiment"], entry.get("policy") or ""]
        if not all(isinstance(text, str) for text in texts) or "/" in texts[1] or texts[1].startswith("."):
            raise ReportError(f"{path}: entry {number}: row, experiment and policy are names, not {texts!r}; put them in quotes")
        rows.append(Row(name=texts[0], experiment=texts[1], policy=texts[2] or None))
    names = [row.name for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise ReportError(f"{path}: two rows are called {name!r}; give each a name of its own")
    return rows


def _paper(path: Path) -> tuple[tuple[str, ...], dict[str, dict[str, str]]]:
    """The columns of metrics, and the printed cells of each row."""
    if not path.is_file():
        return (), {}
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, restkey="")
        head = reader.fieldnames or ()
        columns = tuple(name for name in head if name not in LEADING)
        if "row" not in head or set(columns) - set(METRICS):
            raise ReportError(
                f"{path}: the first line is {','.join(head)!r}; write row,experiment and any of {','.join(METRICS)}"
            )
        printed = {}
        for line in reader:
            cells = {name: line[name] for name in columns if line[name]}
            if "" in line or not all(_is_number(text) for text in cells.values()):
                raise ReportError(f"{path}:{reader.line_num}: not {len(head)} cells with numbers in the last {len(columns)}")
            printed[line["row"]] = cells
    return columns, printed


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _title(folder: Path) -> str:
    """The first heading of its README, else its name."""
    path = folder / "README.md"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((line.removeprefix("# ") for line in lines if line.startswith("# ")), folder.name)
