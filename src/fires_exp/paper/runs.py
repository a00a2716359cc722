"""The runs of a row, from `<scale folder>/<experiment>/seed_<n>/`: the finished ones, and why others have not finished."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from fires_exp.errors import ReportError
from fires_exp.metrics import instance_scores
from fires_exp.paper.spec import Row
from fires_exp.storage.run_files import read_object, read_rows, refusal

# the loader in C, where PyYAML was built with it, reads a configuration ten times faster
SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run and the policy that the row shows. `record` is its run.json, `table` its metrics.json."""

    folder: Path
    seed: int
    policy: str
    record: Mapping[str, Any]
    table: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The path below the scale folder, e.g. `fires/seed_42`."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @cached_property
    def metrics(self) -> dict[str, Mapping[str, Any]]:
        """The policy's rows by name."""
        return {row["name"]: row for row in self.table["policies"][self.policy]}

    @property
    def predictions_file(self) -> Path:
        return self.folder / "predictions" / f"{self.policy}.jsonl"

    @property
    def scores_file(self) -> Path:
        return self.folder / instance_scores.FOLDER / f"{self.policy}.jsonl"

    @cached_property
    def predictions_sha256(self) -> str:
        """Empty where the run has no predictions file."""
        file = self.predictions_file
        return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""

    @cached_property
    def predictions(self) -> list[dict[str, Any]]:
        return read_rows(self.predictions_file)

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The resolved configuration; empty where the run has none."""
        path = self.folder / "resolved.yaml"
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader=SAFE_LOADER) if path.is_file() else None  # noqa: S506
        return tree if isinstance(tree, dict) else {}


@dataclass(frozen=True, kw_only=True, slots=True)
class RowRuns:
    """A row with its finished runs by seed, and a sentence for each missing run."""

    row: Row
    runs: tuple[Run, ...]
    missing: tuple[str, ...]


def read_row(scale_folder: Path, row: Row) -> RowRuns:
    """The runs of a row. Raises `ReportError` where a file of a finished run can't be read."""
    if row.experiment is None:
        return RowRuns(row=row, runs=(), missing=("no experiment here computes this row",))
    folder = scale_folder / row.experiment
    seeds = sorted((int(match[1]), path) for path in folder.glob("seed_*") if (match := re.fullmatch(r"seed_(\d+)", path.name)))
    if not seeds:
        return RowRuns(
            row=row, runs=(), missing=(f"not run yet: there is no {row.experiment}/seed_… in the folder of the sweep",)
        )
    runs, missing = [], []
    for seed, path in seeds:
        run = _read_run(path, seed, row)
        if isinstance(run, Run):
            runs.append(run)
        else:
            missing.append(f"seed {seed}: {run}")
    return RowRuns(row=row, runs=tuple(runs), missing=tuple(missing))


def _read_run(folder: Path, seed: int, row: Row) -> Run | str:
    """The run, or why it has not finished."""
    record = read_object(folder / "run.json")
    if not record:
        return refusal(folder) or "failed or was stopped before it began: no run.json"
    status = record.get("status", "finished")
    if status != "finished":
        return "still running, or killed" if status == "running" else str(status)
    table = read_object(folder / "metrics.json")
    policies = table.get("policies", {})
    if not policies:
        return "finished without a table: no metrics.json"
    policy = row.policy or list(policies)[-1]
    if policy not in policies:
        raise ReportError(
            f"{folder}: no policy {policy!r} in metrics.json; write one of {', '.join(policies)} for row {row.name!r}"
        )
    return Run(folder=folder, seed=seed, policy=policy, record=record, table=table)
