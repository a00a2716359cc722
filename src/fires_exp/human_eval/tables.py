"""Results as text, Markdown, JSON and a figure, of one study or, as in Figure 5 and Table 3, of several."""

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
# printed cells of a paper, "win / tie / lose", by question and second system, named by its row or by its experiment
Printed = Mapping[tuple[str, str], str]


def write_results(folder: Path, result: StudyResult) -> tuple[Path, ...]:
    """`results.json`, `results.md` and `results.svg`."""
    facts = {"format": RESULTS_FORMAT, **asdict(result)}
    bars = {question.question: _values(question) for question in result.questions}
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
    """The results of several studies for one question: `QUESTION.md` and `QUESTION.svg`."""
    bars = {result.second: outcome_rates(result, question) for result in results}
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
    return _values(_result_of(result, question))


def read_results(folder: Path) -> StudyResult:
    path = folder / RESULTS
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if facts.pop("format") != RESULTS_FORMAT:
            raise ValueError
        questions = tuple(_question(question) for question in facts.pop("questions"))
        return StudyResult(**{**facts, "complete": tuple(facts["complete"]), "questions": questions})
    except OSError:
        raise StudyError(f"{path} does not exist; run human_eval read on the study's key and ratings first") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StudyError(f"{path}: incomplete results; run human_eval read again") from None


def headline(result: StudyResult) -> str:
    raters = f"{len(result.complete)} rater{'s' * (len(result.complete) != 1)}"
    complete = " and ".join(map(str, result.complete))
    return f"{result.first} against {result.second}: {result.instances} instances, {raters} (complete: {complete})"


def study_table(result: StudyResult) -> Table:
    """The header and a line for each question."""
    return [HEAD, *((question.question, *_cells(question)) for question in result.questions)]


def comparison_table(question: str, results: Sequence[StudyResult], printed: Printed) -> Table:
    """The header and a line for each study; the last column has the paper's cells, where it printed any."""
    head = [f"{results[0].first} against ({question})", *HEAD[1:]]
    lines = [[result.second, *_cells(_result_of(result, question))] for result in results]
    theirs = [printed.get((question, _without_policy(result.second)), "") for result in results]
    if any(theirs):
        head.append("paper")
        for line, cell in zip(lines, theirs, strict=True):
            line.append(cell or "–")
    return [head, *lines]


def _without_policy(name: str) -> str:
    """The name without the policy: by default a system is called by its run's name and its policy.

    >>> _without_policy("wo_rl (sft)")
    'wo_rl'
    """
    return re.sub(r" \(\w+\)$", "", name)


def read_printed(path: Path) -> Printed:
    """The printed cells, from a csv with the columns question, row, experiment, win, tie, lose. Raises `StudyError`."""
    cells: dict[tuple[str, str], str] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file, strict=True):
                cell = " / ".join(line[outcome] for outcome in OUTCOMES)
                cells |= {(line["question"], line[name]): cell for name in ("row", "experiment")}
    except (OSError, KeyError, TypeError, ValueError, csv.Error):
        raise StudyError(
            f"{path}: not a table of printed cells; its columns are question, row, experiment, win, tie, lose"
        ) from None
    return cells


def as_text(table: Table) -> str:
    return text_table(table[0], table[1:])


def as_markdown(table: Table) -> str:
    header, *rows = ([cell.replace("|", "/") for cell in line] for line in table)
    return markdown_table(header, rows)


def _cells(result: QuestionResult) -> tuple[str, ...]:
    rates = (result.rates[outcome] for outcome in OUTCOMES)
    measures = (result.agreement, result.kappa, result.alpha)
    return (
        *(f"{100 * rate.value:.1f} [{100 * rate.low:.1f}, {100 * rate.high:.1f}]" for rate in rates),
        "< 0.001" if result.p_value < 0.001 else f"{result.p_value:.3f}",
        str(result.instances),
        *("–" if value is None else f"{value:.2f}" for value in measures),
    )


def _values(result: QuestionResult) -> dict[str, float]:
    return {outcome: result.rates[outcome].value for outcome in OUTCOMES}


def _result_of(study: StudyResult, question: str) -> QuestionResult:
    results = {result.question: result for result in study.questions}
    if question not in results:
        answered = ", ".join(results) or "no question"
        raise StudyError(f"study {study.study} ({study.first} against {study.second}) has no {question}; it answers {answered}")
    return results[question]


def _question(facts: Mapping[str, Any]) -> QuestionResult:
    rates = {outcome: Rate(**facts["rates"][outcome]) for outcome in OUTCOMES}
    return QuestionResult(**{**facts, "rates": rates})


def _write(folder: Path, texts: Mapping[str, str]) -> tuple[Path, ...]:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return tuple(folder / name for name in texts)
