"""Figures 3 and 5 and Table 3: aspects of the synthesized thoughts, and the raters' preferences."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fires_exp.human_eval.results import StudyResult
from fires_exp.human_eval.tables import Printed, Table, comparison_table, read_printed, read_results
from fires_exp.paper.figures import Gallery, human_wins
from fires_exp.report.charts import share_plots
from fires_exp.storage.run_files import read_object
from fires_exp.thinking.bank import read_bank

FINISHED = "finished"
PRINTED = Path("table3_thoughts") / "paper.csv"  # below the folder of experiments: the printed results of the paper's raters
FIGURE_3 = "figure3"  # below the folder of runs: the run of `make figure3`


@dataclass(frozen=True, kw_only=True, slots=True)
class HumanEvaluation:
    """`tables` has one table for each question and first system, header first; the last column is the studies' folders."""

    gallery: Gallery
    tables: tuple[Table, ...]


def human_evaluation(folders: Sequence[Path], experiments: Path, page_folder: Path) -> HumanEvaluation | None:
    """The results of studies; None without any. Raises `StudyError` where a file of a study is broken."""
    results = [(folder, read_results(folder)) for folder in folders]
    gallery = human_wins([result for _, result in results], "human")
    if gallery is None:
        return None
    path = experiments / PRINTED
    printed: Printed = read_printed(path) if path.is_file() else {}
    by_table: dict[tuple[str, str], list[tuple[Path, StudyResult]]] = {}
    for folder, study in results:
        for result in study.questions:
            by_table.setdefault((result.question, study.first), []).append((folder, study))
    tables = [_table(question, compared, printed, page_folder) for (question, _), compared in by_table.items()]
    return HumanEvaluation(gallery=gallery, tables=tuple(tables))


def synthesized(run_folder: Path, page_folder: Path, ident: str) -> Gallery | None:
    """Figure 3, from a finished run of the thought synthesis; None without one."""
    record, bank = read_object(run_folder / "run.json"), run_folder / "thoughts.jsonl"
    if record.get("status") != FINISHED or not bank.is_file():
        return None
    banked = list(read_bank(bank).values())
    teachers = ", ".join(sorted({thought.model or thought.teacher for thought in banked}))
    source = _source(record)
    return Gallery(
        title="Figure 3: which aspects the synthesized thoughts name",
        note=f"% of thoughts of {teachers}; from {_below(run_folder, page_folder)}, {source}.",
        legend="shares",
        plots=share_plots([thought.thought for thought in banked], {}, {}, ident=ident),
    )


def _table(question: str, studies: Sequence[tuple[Path, StudyResult]], printed: Printed, page_folder: Path) -> Table:
    head, *lines = comparison_table(question, [result for _, result in studies], printed)
    folders = [_below(folder, page_folder) for folder, _ in studies]
    return [[*head, "study"], *([*line, folder] for line, folder in zip(lines, folders, strict=True))]


def _below(folder: Path, page_folder: Path) -> str:
    return Path(os.path.relpath(folder, page_folder)).as_posix()


def _source(record: Mapping[str, object]) -> str:
    config, commit = (str(record.get(name) or "–")[:10] for name in ("config_sha256", "commit"))
    return f"configuration {config}, commit {commit}"
