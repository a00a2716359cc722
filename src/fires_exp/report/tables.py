"""The tables of a run as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fires_exp.report.text_tables import text_table

Rows = Sequence[Mapping[str, Any]]

ARROWS = {"higher": "↑", "lower": "↓", "none": ""}
SHARE_COLUMNS = ("included", "neutral", "unknown", "omitted")


def evaluation_text(table: Mapping[str, Any]) -> str:
    """The content of `metrics.json`: policies with intervals, comparisons, and why a metric is missing."""
    parts = [metrics_table(table["policies"])]
    if table["comparisons"]:
        parts.append(comparisons_table(table["comparisons"]))
    parts.append(
        f"[low, high]: {100 * table['confidence']:g} % interval; p: paired; both from {table['bootstrap_samples']} resamples"
    )
    parts += [f"{metric['name']} is not in the table: {metric['reason']}" for metric in table["absent"]]
    return "\n\n".join(parts)


def metrics_table(policies: Mapping[str, Rows]) -> str:
    """A line for each metric and a column for each policy; a star marks the best value of a line."""
    by_name = {policy: {row["name"]: row for row in rows} for policy, rows in policies.items()}
    names = list(dict.fromkeys(row["name"] for rows in policies.values() for row in rows))
    lines = []
    for name in names:
        rows = [by_name[policy].get(name) for policy in policies]
        best = best_value([row for row in rows if row is not None])
        direction = next(row["direction"] for row in rows if row is not None)
        cells = ["–" if row is None else _cell(row, is_best=row["value"] == best) for row in rows]
        lines.append([f"{name} {ARROWS[direction]}".strip(), *cells])
    return text_table(["", *policies], lines)


def comparisons_table(comparisons: Rows) -> str:
    """A line for each metric and a column for each pair of policies: second minus first, with the p-value."""
    pairs = list(dict.fromkeys((row["first"], row["second"]) for row in comparisons))
    cells = {
        (row["name"], row["first"], row["second"]): f"{row['difference']:+.2f}  p {row['p_value']:.3f}" for row in comparisons
    }
    header = ["difference, p-value", *(f"{second} vs {first}" for first, second in pairs)]
    names = dict.fromkeys(row["name"] for row in comparisons)
    return text_table(header, [[name, *(cells.get((name, *pair), "–") for pair in pairs)] for name in names])


def shares_table(shares: Mapping[str, Mapping[str, float]], *, count: int) -> str:
    """Figure 3 in numbers: by aspect, the percentages of thoughts that include it, call it neutral or unknown, or omit it."""
    rows = [[name, *(f"{100 * of_aspect[status]:.1f}" for status in SHARE_COLUMNS)] for name, of_aspect in shares.items()]
    return text_table([f"% of {count} thoughts", *SHARE_COLUMNS], rows)


def interval_text(row: Mapping[str, Any]) -> str:
    """The interval of a row or a comparison; empty for a row without one.

    >>> interval_text({"low": 13.94, "high": 16.6})
    '[13.9, 16.6]'
    """
    return f"[{row['low']:.1f}, {row['high']:.1f}]" if "low" in row else ""


def best_value(rows: Rows) -> float | None:
    """The best of several values of a metric; None where the metric has no direction, or all values are equal."""
    if len(rows) < 2 or rows[0]["direction"] == "none":
        return None
    values = [float(row["value"]) for row in rows]
    if len(set(values)) == 1:
        return None
    return max(values) if rows[0]["direction"] == "higher" else min(values)


def skill_table(test: Mapping[str, Any]) -> str:
    """A scorer's test, from its `test.json`: a line for each mechanism, with the scores of always guessing the majority level."""
    header = [
        "",
        "accuracy",
        "macro-F1",
        "F1 of 0 / 1 / 2",
        "majority acc.",
        "majority F1",
        "rationale F1",
        "calibration error",
        "loss",
    ]
    lines = []
    for name, row in test["mechanisms"].items():
        rationale = row["rationale_token_f1"]
        lines.append(
            [
                name.replace("_", " "),
                f"{row['accuracy']:.3f}",
                f"{row['macro_f1']:.3f}",
                " / ".join(f"{value:.2f}" for value in row["f1"]),
                f"{row['majority_accuracy']:.3f}",
                f"{row['majority_macro_f1']:.3f}",
                "–" if rationale is None else f"{rationale:.3f}",
                f"{row['calibration_error']:.3f}",
                row["chosen"]["loss"],
            ]
        )
    return f"{test['scorer']}: {test['test_pairs']} test pairs, seed {test['seed']}\n" + text_table(header, lines)


def _cell(row: Mapping[str, Any], *, is_best: bool) -> str:
    number = f"{row['value']:.2f}{'*' if is_best else ' '}"
    return f"{number} {interval_text(row):<14}" if interval_text(row) else number
