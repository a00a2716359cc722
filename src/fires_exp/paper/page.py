"""The page of a report: for each experiment its table, differences from the paper, figures, cases, costs, and links to runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fires_exp.human_eval.tables import NOTE
from fires_exp.paper.cost import Cost, costs, total
from fires_exp.paper.differences import Difference, differences, warnings
from fires_exp.paper.figures import Gallery, galleries
from fires_exp.paper.human_eval import HumanEvaluation
from fires_exp.paper.render import MARKS
from fires_exp.paper.table import ExperimentTable
from fires_exp.report.page import LETTERS_SHOWN, in_words
from fires_exp.report.plots import STATUS_COLORS, VARIABLES, evenly
from fires_exp.report.sections import PredictionCard, prediction_cards
from fires_exp.report.templates import render

CASES_SHOWN = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLink:
    """A run of a row; `href` is the run's own page, or its run.json where it has none, relative to this page."""

    row: str
    seed: int
    policy: str
    href: str
    config: str
    commit: str
    predictions: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """An experiment on a page; `anchor` is the prefix of its ids. Empty fields leave their parts out."""

    anchor: str
    table: ExperimentTable
    scale: str
    finished: int
    warnings: tuple[str, ...]
    differences: tuple[Difference, ...]
    galleries: tuple[Gallery, ...]
    cards: tuple[PredictionCard, ...]
    costs: tuple[Cost, ...]
    links: tuple[RunLink, ...]


def make_section(table: ExperimentTable, scale: str, page_folder: Path, cases: Sequence[str] | None) -> Section:
    """`cases` are ids of instances to show; with None, three that all rows answered, spread evenly."""
    anchor = table.name.replace("_", "-")
    return Section(
        anchor=anchor,
        table=table,
        scale=scale,
        finished=len(table.runs),
        warnings=warnings(table.runs),
        differences=differences(table.runs, scale),
        galleries=galleries(table, anchor),
        cards=_cards(table, cases),
        costs=costs(table.rows),
        links=_links(table, page_folder),
    )


def page_text(title: str, sections: Sequence[Section], human: HumanEvaluation | None, figure_3: Gallery | None) -> str:
    """The HTML of the page. With a single section, its title is the title of the page."""
    return render(
        "paper/page.html",
        title=title,
        sections=sections,
        human=human,
        rating_note=NOTE,
        figure_3=figure_3,
        marks=MARKS,
        in_words=in_words,
        total=total,
        letters_shown=LETTERS_SHOWN,
        share_colors=[(status, VARIABLES.get(color, color)) for status, color in STATUS_COLORS.items()],
    )


def _cards(table: ExperimentTable, cases: Sequence[str] | None) -> tuple[PredictionCard, ...]:
    answers = {row.name: row.runs[0].predictions for row in table.rows if row.runs}
    answers = {name: rows for name, rows in answers.items() if rows}
    if cases is None:
        shortest = [row["id"] for row in min(answers.values(), key=len, default=[])]
        ids_by_row = [{row["id"] for row in rows} for rows in answers.values()]
        cases = evenly([name for name in shortest if all(name in ids for ids in ids_by_row)], CASES_SHOWN)
    return prediction_cards(answers, cases)


def _links(table: ExperimentTable, page_folder: Path) -> tuple[RunLink, ...]:
    links = []
    for row in table.rows:
        for run in row.runs:
            page = run.folder / "report.html"
            target = page if page.is_file() else run.folder / "run.json"
            links.append(
                RunLink(
                    row=row.name,
                    seed=run.seed,
                    policy=run.policy,
                    href=Path(os.path.relpath(target, page_folder)).as_posix(),
                    config=str(run.record.get("config_sha256") or "–")[:10],
                    commit=str(run.record.get("commit") or "–")[:10],
                    predictions=run.predictions_sha256[:10] or "–",
                )
            )
    return tuple(links)
