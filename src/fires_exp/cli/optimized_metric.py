"""The number that a sweeper optimizes: one metric of a job's table, its sign set so that higher is better."""

from __future__ import annotations

import json
from pathlib import Path

from fires_exp.errors import ConfigError

SIGN = {"higher": 1.0, "lower": -1.0}


def read_optimized_metric(run_folder: Path, metric: str) -> float:
    """The last policy's `metric` in `metrics.json`, negated where lower is better. Raises `ConfigError` where there is no table,
    or where the metric is not in it or has no better direction."""
    path = run_folder / "metrics.json"
    if not path.is_file():
        raise ConfigError(
            f"optimized_metric={metric}: {path} does not exist; run a recipe that evaluates, not plan_only or dry_run"
        )
    table = json.loads(path.read_text(encoding="utf-8"))
    policy = list(table["policies"])[-1]
    rows = {row["name"]: row for row in table["policies"][policy] if row["direction"] in SIGN}
    if metric not in rows:
        raise ConfigError(f"optimized_metric={metric}: not in the table of {policy} in {path}; write one of {', '.join(rows)}")
    return SIGN[rows[metric]["direction"]] * float(rows[metric]["value"])
