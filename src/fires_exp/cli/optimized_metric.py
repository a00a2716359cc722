"""What a job tells the sweeper that started it: one number of the table it left, the higher the better."""

from __future__ import annotations

import json
from pathlib import Path

from fires_exp.errors import ConfigError

SIGN = {"higher": 1.0, "lower": -1.0}


def objective_of(run_folder: Path, metric: str) -> float:
    """The last policy's `metric` in `metrics.json`, its sign turned where lower is better. Raises `ConfigError` where there is no
    table, or no such metric in it, or none of its values is better than another."""
    path = run_folder / "metrics.json"
    if not path.is_file():
        raise ConfigError(
            f"optimized_metric={metric}: {run_folder} has no table; ask for a run that answers, not for a rehearsal"
        )
    table = json.loads(path.read_text(encoding="utf-8"))
    policy = list(table["policies"])[-1]
    rows = {row["name"]: row for row in table["policies"][policy] if row["direction"] in SIGN}
    if metric not in rows:
        raise ConfigError(f"optimized_metric={metric}: {policy} in {run_folder} has none; write one of {', '.join(rows)}")
    return SIGN[rows[metric]["direction"]] * float(rows[metric]["value"])
