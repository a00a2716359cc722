"""`results.csv`: every number of a table with its source, a line for each row, seed and metric."""

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


def results_csv(table: ExperimentTable, folder: Path) -> str:
    """The text of the file. It has all metrics of a run, also those that are no column of the table, with all digits. Run folders
    are relative to `folder`, which the file is written into."""
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
