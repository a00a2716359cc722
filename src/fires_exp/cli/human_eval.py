"""`python -m fires_exp.human_eval make | judge | read | compare`: a blind study of two systems, to its figure."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fires_exp.config.secrets import without_secrets
from fires_exp.errors import FiresError, StudyError
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

USER_ERROR = 2


def main(arguments: list[str]) -> int:
    asked = _parser().parse_args(arguments)
    commands = {"make": _make, "judge": _judge, "read": _read, "compare": _compare}
    try:
        commands[asked.command](asked)
    except FiresError as error:
        print(f"fires_exp: {without_secrets(str(error))}", file=sys.stderr)
        return USER_ERROR
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fires_exp.human_eval", description=__doc__.partition(": ")[2])
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="a page for raters and the key that unblinds it")
    source = "predictions .jsonl, run folder (its last policy), or RUN_FOLDER:POLICY"
    make.add_argument("a", metavar="A", help=f"the system whose wins are counted: {source}")
    make.add_argument("b", metavar="B", help="the system it is compared with, named alike")
    make.add_argument("--out", type=Path, required=True, help=f"folder for {PAGE} and {KEY}")
    make.add_argument("--count", type=int, required=True, help="instances to draw; the paper has 100")
    make.add_argument("--seed", type=int, required=True, help="of the draw and of the sides")
    make.add_argument("--names", nargs=2, metavar=("A", "B"), help="names for tables and figures, instead of the runs'")
    make.add_argument("--context-only", action="store_true", help="show the seeker's last turn instead of the whole history")
    judge = commands.add_parser("judge", help="a model behind a service fills the form; its ratings are read like a person's")
    judge.add_argument("study", type=Path, help="folder that `make` wrote")
    judge.add_argument("settings", nargs="+", metavar=f"{KEYS}KEY=VALUE", help="the service, as docs/config.md lists its keys")
    judge.add_argument("--text-only", action="store_true", help="show no frames, for a model without pictures")
    read = commands.add_parser("read", help="ratings to win, tie and lose; writes results.json, .md and .svg beside the key")
    read.add_argument("key", type=Path)
    read.add_argument("ratings", type=Path, nargs="+")
    compare = commands.add_parser("compare", help="several studies of one system in one table and one figure, as in Figure 5")
    compare.add_argument("studies", type=Path, nargs="*", help="folders with results.json, or with ratings (--ratings)")
    names = [question.name for question in QUESTIONS]
    compare.add_argument("--question", required=True, nargs="+", choices=names, dest="questions")
    compare.add_argument(
        "--ratings", metavar="PATTERN", help="first read each study's files of this name, such as 'ratings_*.json'"
    )
    compare.add_argument("--paper", type=Path, metavar="CSV", help="printed cells to lay beside ours")
    compare.add_argument("--out", type=Path, required=True, help="folder for QUESTION.md and QUESTION.svg")
    return parser


def _make(asked: argparse.Namespace) -> None:
    first, second = read_system(asked.a), read_system(asked.b)
    if asked.names:
        first, second = replace(first, name=asked.names[0]), replace(second, name=asked.names[1])
    study, key = draw_study(first, second, Draw(count=asked.count, seed=asked.seed, full_history=not asked.context_only))
    write_study(asked.out, study, key)
    print(f"send to raters: {asked.out / PAGE}\nkeep, and never send: {asked.out / KEY}")


def _judge(asked: argparse.Namespace) -> None:
    config = judge_settings(asked.settings)
    if config.dry_run:
        print(estimate(asked.study, config, with_frames=not asked.text_only))
        return
    judged = fill_form(asked.study, config, with_frames=not asked.text_only)
    refused = f"; {judged.refused} of them are refused and not rated" if judged.refused else ""
    print(f"{judged.compared} comparisons, of which {judged.agreed} came out alike in both orders{refused}\n{judged.path}")


def _read(asked: argparse.Namespace) -> None:
    result, paths = _read_study(asked.key, asked.ratings)
    print(f"{headline(result)}\n\n{as_text(study_table(result))}\n\n{NOTE}\n")
    print("\n".join(map(str, paths)))


def _read_study(key_file: Path, files: Sequence[Path]) -> tuple[StudyResult, tuple[Path, ...]]:
    """What raters said, and where it is written now. Raises `StudyError` where they said nothing."""
    key = read_key(key_file)
    result = study_result(key, read_all_ratings(files, key))
    if not result.questions:
        raise StudyError(f"{', '.join(map(str, files))}: nothing is rated yet")
    return result, write_results(key_file.parent, result)


def _compare(asked: argparse.Namespace) -> None:
    if not asked.studies:
        raise StudyError("no study is named; make one with human_eval make, and name its folder here (make: STUDIES='…')")
    for folder in asked.studies if asked.ratings else ():
        if not (files := sorted(folder.glob(asked.ratings))):
            raise StudyError(f"{folder} has no {asked.ratings}; put the files that raters exported there")
        _read_study(folder / KEY, files)
    results = [read_results(folder) for folder in asked.studies]
    if len({of.first for of in results}) > 1 or len({of.second for of in results}) < len(results):
        pairs = ", ".join(f"{of.first} against {of.second}" for of in results)
        raise StudyError(f"compare takes studies of one system against different ones, not {pairs}; make them with --names")
    printed = read_printed(asked.paper) if asked.paper else {}
    paths = [path for question in asked.questions for path in write_comparison(asked.out, question, results, printed)]
    print("\n\n".join(as_text(comparison_table(question, results, printed)) for question in asked.questions) + "\n")
    print("\n".join(map(str, paths)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
