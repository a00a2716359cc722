"""`results.csv`: every number of a table with what it came from, a line for each row, seed and metric."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

from fires_exp.paper.table import ExperimentTable

HEAD = (
    "table", "row", "experiment", "seed", "policy", "metric", "value", "low", "high", "instances",
    "config_sha256", "commit", "run_folder", "predictions_sha256",
)  # fmt: skip


def trail(table: ExperimentTable, folder: Path) -> str:
    """The file's text; run folders are told from `folder`, where the file will lie. All metrics of a run are there, the table's
    columns or not, with all their digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEAD)
    for row in table.rows:
        for run in row.runs:
            source = (
                run.record.get("config_sha256"),
                run.record.get("commit"),
                Path(os.path.relpath(run.folder, folder)).as_posix(),
                run.predictions_sha256,
            )
            for name, metric in run.metrics.items():
                number = (metric["value"], metric.get("low"), metric.get("high"), metric["count"])
                writer.writerow((table.name, row.name, run.folder.parent.name, run.seed, run.policy, name, *number, *source))
    return text.getvalue()
