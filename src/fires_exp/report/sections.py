"""The tables and cards of a page as records, from the rows of a run folder's files; `page.html` lays them out.

Every function accepts few, incomplete or no rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fires_exp.report.charts import Rows
from fires_exp.report.plots import evenly
from fires_exp.report.tables import ARROWS, best_value, interval_text
from fires_exp.training.loggers.panels import POLICY_NAMES

PREDICTIONS_SHOWN = 12
GROUPS_SHOWN = 2
SIGNIFICANT = 0.05  # p-values below it are bold


@dataclass(frozen=True, kw_only=True, slots=True)
class PageCell:
    """A number as the page prints it; `interval` is empty where there is none."""

    text: str
    interval: str
    best: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricLine:
    """One metric; `note` is the letter of its footnote, `cells` has one cell for each policy."""

    name: str
    arrow: str
    note: str
    cells: tuple[PageCell, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonLine:
    """One metric; `cells` has p and the difference for each pair of policies, marked as best where p is below 0.05."""

    name: str
    cells: tuple[tuple[str, PageCell], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PageComparisons:
    """`pairs` are names of policies, the second one first: the difference is second minus first."""

    pairs: tuple[tuple[str, str], ...]
    lines: tuple[ComparisonLine, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PageMetrics:
    """`notes` are the footnotes by letter: how words were counted, and by which code."""

    policies: tuple[str, ...]
    lines: tuple[MetricLine, ...]
    notes: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyAnswer:
    policy: str
    response: str
    thought: str
    well_formed: bool
    cut_off: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionCard:
    id: str
    context: str
    reference: str
    answers: tuple[PolicyAnswer, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A completion with its reward and the reward's parts; `rank` is best, worst or empty; `open` cards are unfolded."""

    reward: float
    parts: tuple[tuple[str, float], ...]
    completion: str
    cut_off: bool
    rank: str
    open: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleGroup:
    """The completions of one instance at one step, best first. In a `tied` group all rewards are equal."""

    step: int
    example: str
    reference: str
    tied: bool
    samples: tuple[Sample, ...]


def metrics_on_page(policies: Mapping[str, Rows]) -> PageMetrics | None:
    """The table with a column for each policy; None where nothing was scored."""
    notes: dict[str, str] = {}
    lines = []
    for name in dict.fromkeys(row["name"] for rows in policies.values() for row in rows):
        rows = [next((row for row in rows if row["name"] == name), None) for rows in policies.values()]
        scored = [row for row in rows if row is not None]
        best = best_value(scored)
        tokens, version = scored[0]["tokens"], scored[0]["version"]
        letter = notes.setdefault(
            version if tokens == "-" else f"{version}, words: {tokens}", "abcdefghijklmnopqrstuvwxyz"[len(notes)]
        )
        cells = (
            PageCell(text="–", interval="", best=False)
            if row is None
            else PageCell(text=f"{row['value']:.2f}", interval=interval_text(row), best=row["value"] == best)
            for row in rows
        )
        lines.append(MetricLine(name=name, arrow=ARROWS[scored[0]["direction"]], note=letter, cells=tuple(cells)))
    if not lines:
        return None
    return PageMetrics(
        policies=tuple(POLICY_NAMES.get(name, name) for name in policies),
        lines=tuple(lines),
        notes=tuple((letter, text) for text, letter in notes.items()),
    )


def comparisons_on_page(rows: Rows) -> PageComparisons | None:
    """The table with a column for each pair of policies; None where nothing was compared."""
    if not rows:
        return None
    pairs: list[tuple[str, str]] = list(dict.fromkeys((row["second"], row["first"]) for row in rows))
    by_pair = {(row["name"], row["second"], row["first"]): row for row in rows}
    return PageComparisons(
        pairs=tuple((POLICY_NAMES.get(second, second), POLICY_NAMES.get(first, first)) for second, first in pairs),
        lines=tuple(
            ComparisonLine(name=name, cells=tuple(_comparison_cell(by_pair.get((name, *pair))) for pair in pairs))
            for name in dict.fromkeys(row["name"] for row in rows)
        ),
    )


def prediction_cards(policies: Mapping[str, Rows], ids: Sequence[str] | None) -> tuple[PredictionCard, ...]:
    """The instances with these ids, or a dozen spread evenly over the longest file, each with its reference and the response of
    every policy."""
    by_id = {policy: {row["id"]: row for row in rows} for policy, rows in policies.items()}
    longest = max(policies.values(), key=len, default=())
    shown = evenly(longest, PREDICTIONS_SHOWN) if ids is None else [row for row in longest if row["id"] in ids]
    return tuple(
        PredictionCard(
            id=row["id"],
            context=row["context"],
            reference=row["reference_response"],
            answers=tuple(_answer(policy, rows[row["id"]]) for policy, rows in by_id.items() if row["id"] in rows),
        )
        for row in shown
    )


def sample_groups(rows: Rows) -> tuple[SampleGroup, ...]:
    """The first groups of the first and of the last logged step."""
    steps = sorted({row["step"] for row in rows})
    groups = []
    for step in dict.fromkeys([*steps[:1], *steps[-1:]]):
        step_rows = [row for row in rows if row["step"] == step]
        for example in list(dict.fromkeys(row["example_id"] for row in step_rows))[:GROUPS_SHOWN]:
            groups.append(_group(step, example, [row for row in step_rows if row["example_id"] == example]))
    return tuple(groups)


def _comparison_cell(row: Mapping[str, Any] | None) -> tuple[str, PageCell]:
    if row is None:
        return "", PageCell(text="–", interval="", best=False)
    cell = PageCell(text=f"{row['difference']:+.2f}", interval=interval_text(row), best=row["p_value"] < SIGNIFICANT)
    return f"{row['p_value']:.3f}", cell


def _group(step: int, example: str, rows: Rows) -> SampleGroup:
    ordered = sorted(rows, key=lambda row: -row["reward"])
    best, worst = ordered[0]["reward"], ordered[-1]["reward"]
    names = {} if best == worst else {best: "best", worst: "worst"}
    samples = (
        Sample(
            reward=row["reward"],
            parts=tuple((_words(name), row[name]) for name in row if name.startswith("reward_")),
            completion=row["completion"],
            cut_off=row["finish_reason"] == "length",
            rank=names.get(row["reward"], ""),
            open=rank == 0 or (best != worst and rank == len(ordered) - 1),
        )
        for rank, row in enumerate(ordered)
    )
    return SampleGroup(
        step=step, example=example, reference=rows[0]["reference_response"], tied=best == worst, samples=tuple(samples)
    )


def _answer(policy: str, row: Mapping[str, Any]) -> PolicyAnswer:
    return PolicyAnswer(
        policy=POLICY_NAMES.get(policy, policy),
        response=row["response"],
        thought=row["thought"],
        well_formed=row["well_formed"],
        cut_off=row["finish_reason"] == "length",
    )


def _words(name: str) -> str:
    return name.removeprefix("reward_").replace("_", " ")
