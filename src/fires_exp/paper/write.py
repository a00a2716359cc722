"""The files of a report: `table.txt`, `table.md`, `table.tex`, `results.csv` and `report.html` in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from fires_exp.errors import ReportError
from fires_exp.human_eval import tables as ratings
from fires_exp.human_eval.tables import RESULTS
from fires_exp.paper.cost import cost_sentence
from fires_exp.paper.differences import differences_sentence
from fires_exp.paper.figures import Gallery
from fires_exp.paper.human_eval import FIGURE_3, HumanEvaluation, human_evaluation, synthesized
from fires_exp.paper.page import Section, make_section, page_text
from fires_exp.paper.render import as_latex, as_markdown, as_text, texts_as_latex
from fires_exp.paper.results_csv import HEAD, results_csv
from fires_exp.paper.spec import is_experiment, read_experiment
from fires_exp.paper.table import ExperimentTable, make_table

REPORT = "report"
PAPER = "paper"
PAGE = "report.html"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportOptions:
    """The options of a report: `against` is the row that others are compared with, None for the default; `cases` are ids of
    instances, None for an even choice; `human_eval` are folders with results of studies."""

    against: str | None
    cases: tuple[str, ...] | None
    human_eval: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenReport:
    """The tables as text, and the path of the page."""

    text: str
    page: Path


def write_experiment(folder: Path, scale_folder: Path, options: ReportOptions) -> WrittenReport:
    """Write the report of one experiment over the runs of a scale into `<scale folder>/report/`.

    Raises `ReportError` where one of the folders can't be read.
    """
    if not scale_folder.is_dir():
        raise ReportError(f"{scale_folder} does not exist; run the sweep first, or name its folder with --runs")
    table = make_table(read_experiment(folder), scale_folder, options.against)
    page_folder = scale_folder / REPORT
    human = human_evaluation(options.human_eval, folder.parent, page_folder)
    return _write(page_folder, table.title, [(table, scale_folder.name)], options, human, None)


def write_paper(experiments: Path, runs: Path, scale: str, options: ReportOptions) -> WrittenReport:
    """Write one report of all experiments into `<runs>/paper/<scale>/`; without runs, the paper's numbers only."""
    folders = sorted((folder for folder in experiments.glob("*") if is_experiment(folder)), key=_paper_order)
    if not folders:
        raise ReportError(f"{experiments} has no folder with runs.yaml; name the folder of experiments with --experiments")
    if not any((runs / folder.name / scale).is_dir() for folder in folders):
        raise ReportError(f"{runs} has no <experiment>/{scale}; run a sweep first, or write --runs and --scale of one that ran")
    tables = [
        (make_table(read_experiment(folder), runs / folder.name / scale, options.against), scale)
        for folder in tqdm(folders, desc="tables", unit="table", leave=False)
    ]
    page_folder = runs / PAPER / scale
    human = human_evaluation(options.human_eval, experiments, page_folder)
    figure_3 = synthesized(runs / FIGURE_3 / scale, page_folder, "figure3")
    return _write(page_folder, f"Tables and figures at {scale} scale", tables, options, human, figure_3)


def _paper_order(folder: Path) -> tuple[int, str]:
    """Tables, then figures, then the others, as in the paper."""
    prefixes = ("table", "figure")
    return next((rank for rank, prefix in enumerate(prefixes) if folder.name.startswith(prefix)), len(prefixes)), folder.name


def only_scale(runs: Path) -> Path:
    """The only folder below `runs/<experiment>` that has runs. Raises `ReportError` where there are none or several."""
    scales = sorted(folder for folder in runs.glob("*") if any(folder.glob("*/seed_*")))
    if len(scales) != 1:
        problem = f"has the scales {', '.join(folder.name for folder in scales)}" if scales else "has no runs"
        raise ReportError(f"{runs} {problem}; name a folder with --runs {runs}/<scale>")
    return scales[0]


def studies_below(runs: Path) -> tuple[Path, ...]:
    """The folders of human evaluations that have results."""
    return tuple(sorted(path.parent for path in runs.glob(f"human_eval*/**/{RESULTS}")))


def _write(
    folder: Path,
    title: str,
    tables: Sequence[tuple[ExperimentTable, str]],
    options: ReportOptions,
    human: HumanEvaluation | None,
    figure_3: Gallery | None,
) -> WrittenReport:
    folder.mkdir(parents=True, exist_ok=True)
    sections = [
        make_section(table, scale, folder, options.cases)
        for table, scale in tqdm(tables, desc="figures", unit="table", leave=False, disable=len(tables) < 2)
    ]
    below = [_below(section) for section in sections]
    rated = human.tables if human is not None else ()
    in_text = [as_text(section.table, sentences) for section, sentences in zip(sections, below, strict=True)]
    in_markdown = [as_markdown(section.table, sentences) for section, sentences in zip(sections, below, strict=True)]
    in_latex = [as_latex(section.table, sentences) for section, sentences in zip(sections, below, strict=True)]
    text = "\n\n".join([*in_text, *(f"{ratings.as_text(lines)}\n" for lines in rated)])
    rows = [results_csv(table, folder).partition("\n")[2] for table, _ in tables]
    texts = {
        "table.txt": text,
        "table.md": "\n".join([*in_markdown, *(f"{ratings.as_markdown(lines)}\n" for lines in rated)]),
        "table.tex": "\n".join([*in_latex, *map(texts_as_latex, rated)]),
        "results.csv": ",".join(HEAD) + "\n" + "".join(rows),
        PAGE: page_text(title, sections, human, figure_3),
    }
    for name, content in texts.items():
        (folder / name).write_text(content, encoding="utf-8")
    return WrittenReport(text=text, page=folder / PAGE)


def _below(section: Section) -> list[str]:
    sentences = (differences_sentence(section.differences), cost_sentence(section.costs))
    return [sentence for sentence in sentences if sentence]
