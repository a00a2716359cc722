"""Results as text, Markdown, JSON and a figure; of one study, or of several side by side as Figure 5 and Table 3 have them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fires_exp.errors import StudyError
from fires_exp.human_eval.results import QuestionResult, Rate, StudyResult
from fires_exp.human_eval.study import OUTCOMES
from fires_exp.report.plots import stacked_outcomes, standalone
from fires_exp.report.text_tables import markdown_table, text_table

RESULTS = "results.json"
RESULTS_FORMAT = "human-eval results 1"
HEAD = ("question", *(f"{outcome} %" for outcome in OUTCOMES), "p", "instances", "agreement", "kappa", "alpha")
NOTE = (
    "Each instance counts once, several raters' verdicts averaged; [95 % Wilson interval]; p: exact sign test over instances. "
    "Agreement: share of pairs of verdicts that are equal; kappa: Cohen's (two raters); alpha: Krippendorff's, nominal."
)

Table = Sequence[Sequence[str]]
# what a paper printed, "win / tie / lose", by question and by the second system, under its row's name or its experiment's
Printed = Mapping[tuple[str, str], str]


def write_results(folder: Path, result: StudyResult) -> tuple[Path, ...]:
    """`results.json`, `results.md` and `results.svg`."""
    facts = {"format": RESULTS_FORMAT, **asdict(result)}
    bars = {of.question: _values(of) for of in result.questions}
    title = f"{result.first} against {result.second}"
    return _write(
        folder,
        {
            RESULTS: json.dumps(facts, indent=1, ensure_ascii=False) + "\n",
            "results.md": f"{headline(result)}\n\n{as_markdown(study_table(result))}\n\n{NOTE}\n",
            "results.svg": standalone(stacked_outcomes(title, bars, ident="human-eval")),
        },
    )


def write_comparison(folder: Path, question: str, results: Sequence[StudyResult], printed: Printed) -> tuple[Path, ...]:
    """Several studies' answers to one question: `QUESTION.md` and `QUESTION.svg`."""
    bars = {of.second: outcome_rates(of, question) for of in results}
    title = f"{results[0].first}, {question}"
    return _write(
        folder,
        {
            f"{question}.md": as_markdown(comparison_table(question, results, printed)) + "\n",
            f"{question}.svg": standalone(stacked_outcomes(title, bars, ident="human-eval")),
        },
    )


def outcome_rates(result: StudyResult, question: str) -> dict[str, float]:
    """The shares of win, tie and lose. Raises `StudyError` where the study has no such question."""
    return _values(_answers(result, question))


def read_results(folder: Path) -> StudyResult:
    path = folder / RESULTS
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts.pop("format") != RESULTS_FORMAT:
            raise ValueError
        questions = tuple(_question(of) for of in facts.pop("questions"))
        return StudyResult(**{**facts, "complete": tuple(facts["complete"]), "questions": questions})
    except OSError:
        raise StudyError(f"{path} is not there; run human_eval read on the study's key and ratings first") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StudyError(f"{path}: no whole results; run human_eval read again") from None


def headline(result: StudyResult) -> str:
    raters = f"{len(result.complete)} rater{'s' * (len(result.complete) != 1)}"
    complete = " and ".join(map(str, result.complete))
    return f"{result.first} against {result.second}: {result.instances} instances, {raters} (complete: {complete})"


def study_table(result: StudyResult) -> Table:
    """A line a question, below its head."""
    return [HEAD, *((of.question, *_cells(of)) for of in result.questions)]


def comparison_table(question: str, results: Sequence[StudyResult], printed: Printed) -> Table:
    """A line a study, below its head; the last column is the paper's, where it printed any of them."""
    head = [f"{results[0].first} against ({question})", *HEAD[1:]]
    lines = [[of.second, *_cells(_answers(of, question))] for of in results]
    theirs = [printed.get((question, _without_policy(of.second)), "") for of in results]
    if any(theirs):
        head.append("paper")
        for line, cell in zip(lines, theirs, strict=True):
            line.append(cell or "–")
    return [head, *lines]


def _without_policy(name: str) -> str:
    """A run is called by its name and policy unless a study says otherwise.

    >>> _without_policy("wo_rl (sft)")
    'wo_rl'
    """
    return re.sub(r" \(\w+\)$", "", name)


def read_printed(path: Path) -> Printed:
    """Of a csv with the columns question, row, experiment, win, tie, lose. Raises `StudyError`."""
    found: dict[tuple[str, str], str] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file, strict=True):
                cell = " / ".join(line[outcome] for outcome in OUTCOMES)
                found |= {(line["question"], line[name]): cell for name in ("row", "experiment")}
    except (OSError, KeyError, TypeError, ValueError, csv.Error):
        raise StudyError(f"{path}: no table of a paper; its columns are question, row, experiment, win, tie, lose") from None
    return found


def as_text(table: Table) -> str:
    return text_table(table[0], table[1:])


def as_markdown(table: Table) -> str:
    header, *rows = ([cell.replace("|", "/") for cell in line] for line in table)
    return markdown_table(header, rows)


def _cells(of: QuestionResult) -> tuple[str, ...]:
    rates = (of.rates[outcome] for outcome in OUTCOMES)
    measures = (of.agreement, of.kappa, of.alpha)
    return (
        *(f"{100 * rate.value:.1f} [{100 * rate.low:.1f}, {100 * rate.high:.1f}]" for rate in rates),
        "< 0.001" if of.p_value < 0.001 else f"{of.p_value:.3f}",
        str(of.instances),
        *("–" if value is None else f"{value:.2f}" for value in measures),
    )


def _values(of: QuestionResult) -> dict[str, float]:
    return {outcome: of.rates[outcome].value for outcome in OUTCOMES}


def _answers(result: StudyResult, question: str) -> QuestionResult:
    found = next((of for of in result.questions if of.question == question), None)
    if found is None:
        there = ", ".join(of.question for of in result.questions) or "nothing"
        raise StudyError(f"study {result.study} ({result.first} against {result.second}) has no {question}; it answers {there}")
    return found


def _question(facts: Mapping[str, Any]) -> QuestionResult:
    rates = {outcome: Rate(**facts["rates"][outcome]) for outcome in OUTCOMES}
    return QuestionResult(**{**facts, "rates": rates})


def _write(folder: Path, texts: Mapping[str, str]) -> tuple[Path, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return tuple(folder / name for name in texts)
