"""Tables as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ARROWS = {"higher": "↑", "lower": "↓", "none": ""}


def metrics_table(policies: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """One line a metric, one column a policy, the best value of each line marked with a star."""
    by_name = {policy: {row["name"]: row for row in rows} for policy, rows in policies.items()}
    names = list(dict.fromkeys(row["name"] for rows in policies.values() for row in rows))
    lines = [["", *policies]]
    for name in names:
        rows = [by_name[policy].get(name) for policy in policies]
        best = best_value([row for row in rows if row is not None])
        direction = next(row["direction"] for row in rows if row is not None)
        cells = ["–" if row is None else f"{row['value']:.2f}{'*' if row['value'] == best else ' '}" for row in rows]
        lines.append([f"{name} {ARROWS[direction]}".strip(), *cells])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    texts = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return "\n".join([texts[0], "-" * len(texts[0]), *texts[1:]])


def best_value(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The best of several values of one metric; None where the metric has no better direction, or all are equal."""
    if len(rows) < 2 or rows[0]["direction"] == "none":
        return None
    values = [float(row["value"]) for row in rows]
    if len(set(values)) == 1:
        return None
    return max(values) if rows[0]["direction"] == "higher" else min(values)
