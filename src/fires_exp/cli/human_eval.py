"""`fires-exp human-eval make | judge | read | compare`: a blind comparison of two systems, from the form to the figure."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fires_exp.cli.console import command
from fires_exp.errors import StudyError
from fires_exp.human_eval.files import KEY, PAGE, read_all_ratings, read_key, write_study
from fires_exp.human_eval.llm_rater import KEYS, estimate, fill_form, judge_settings
from fires_exp.human_eval.results import StudyResult, study_result
from fires_exp.human_eval.sampling import Draw, draw_study
from fires_exp.human_eval.study import QUESTIONS
from fires_exp.human_eval.systems import read_system
from fires_exp.human_eval.tables import (
    NOTE,
    as_text,
    comparison_table,
    headline,
    read_printed,
    read_results,
    study_table,
    write_comparison,
    write_results,
)


@command
def main(arguments: list[str]) -> None:
    options = _parser().parse_args(arguments)
    steps = {"make": _make, "judge": _judge, "read": _read, "compare": _compare}
    steps[options.step](options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fires-exp human-eval", description=__doc__.partition(": ")[2])
    commands = parser.add_subparsers(dest="step", required=True)
    make = commands.add_parser("make", help="a page for raters and the key that unblinds it")
    source = "predictions .jsonl, run folder (its last policy), or RUN_FOLDER:POLICY"
    make.add_argument("a", metavar="A", help=f"the system whose wins are counted: {source}")
    make.add_argument("b", metavar="B", help="the system it is compared with, named in the same way")
    make.add_argument("--out", type=Path, required=True, help=f"folder for {PAGE} and {KEY}")
    make.add_argument("--count", type=int, required=True, help="instances to draw; the paper has 100")
    make.add_argument("--seed", type=int, required=True, help="seed of the draw and of the sides")
    make.add_argument("--names", nargs=2, metavar=("A", "B"), help="names for tables and figures, instead of the runs'")
    make.add_argument("--context-only", action="store_true", help="show the seeker's last turn instead of the whole history")
    judge = commands.add_parser(
        "judge", help="let a model behind a service fill in the form; its ratings are read like those of a person"
    )
    judge.add_argument("study", type=Path, help="folder that `make` wrote")
    judge.add_argument("settings", nargs="+", metavar=f"{KEYS}KEY=VALUE", help="the service, as docs/config.md lists its keys")
    judge.add_argument("--text-only", action="store_true", help="show no frames, for a model without pictures")
    read = commands.add_parser(
        "read", help="turn ratings into win, tie and lose; writes results.json, .md and .svg next to the key"
    )
    read.add_argument("key", type=Path)
    read.add_argument("ratings", type=Path, nargs="+")
    compare = commands.add_parser("compare", help="several studies of one system in one table and one figure, as in Figure 5")
    compare.add_argument("studies", type=Path, nargs="*", help="folders with results.json, or with ratings (--ratings)")
    names = [question.name for question in QUESTIONS]
    compare.add_argument("--question", required=True, nargs="+", choices=names, dest="questions")
    compare.add_argument(
        "--ratings", metavar="PATTERN", help="first read each study's files of this name, such as 'ratings_*.json'"
    )
    compare.add_argument("--paper", type=Path, metavar="CSV", help="the cells of the paper, to compare with")
    compare.add_argument("--out", type=Path, required=True, help="folder for QUESTION.md and QUESTION.svg")
    return parser


def _make(options: argparse.Namespace) -> None:
    first, second = read_system(options.a), read_system(options.b)
    if options.names:
        first, second = replace(first, name=options.names[0]), replace(second, name=options.names[1])
    study, key = draw_study(first, second, Draw(count=options.count, seed=options.seed, full_history=not options.context_only))
    write_study(options.out, study, key)
    print(f"send to raters: {options.out / PAGE}\nkeep, and never send: {options.out / KEY}")


def _judge(options: argparse.Namespace) -> None:
    config = judge_settings(options.settings)
    if config.dry_run:
        print(estimate(options.study, config, with_frames=not options.text_only))
        return
    judged = fill_form(options.study, config, with_frames=not options.text_only)
    refused = f"; {judged.refused} of them were refused and are not rated" if judged.refused else ""
    print(f"{judged.compared} comparisons, of which {judged.agreed} have the same verdict in both orders{refused}\n{judged.path}")


def _read(options: argparse.Namespace) -> None:
    result, paths = _read_study(options.key, options.ratings)
    print(f"{headline(result)}\n\n{as_text(study_table(result))}\n\n{NOTE}\n")
    print("\n".join(map(str, paths)))


def _read_study(key_file: Path, files: Sequence[Path]) -> tuple[StudyResult, tuple[Path, ...]]:
    """The result of the ratings, and the files that it was written to. Raises `StudyError` where nothing is rated."""
    key = read_key(key_file)
    result = study_result(key, read_all_ratings(files, key))
    if not result.questions:
        raise StudyError(f"{', '.join(map(str, files))}: nothing is rated yet")
    return result, write_results(key_file.parent, result)


def _compare(options: argparse.Namespace) -> None:
    if not options.studies:
        raise StudyError(
            "no study is named; make one with fires-exp human-eval make, and name its folder here (make: STUDIES='…')"
        )
    for folder in options.studies if options.ratings else ():
        if not (files := sorted(folder.glob(options.ratings))):
            raise StudyError(f"{folder} has no {options.ratings}; put the files that raters exported there")
        _read_study(folder / KEY, files)
    results = [read_results(folder) for folder in options.studies]
    if len({of.first for of in results}) > 1 or len({of.second for of in results}) < len(results):
        pairs = ", ".join(f"{of.first} against {of.second}" for of in results)
        raise StudyError(f"compare takes studies of one system against different ones, not {pairs}; make them with --names")
    printed = read_printed(options.paper) if options.paper else {}
    paths = [path for question in options.questions for path in write_comparison(options.out, question, results, printed)]
    print("\n\n".join(as_text(comparison_table(question, results, printed)) for question in options.questions) + "\n")
    print("\n".join(map(str, paths)))
