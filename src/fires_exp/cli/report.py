"""`python -m fires_exp.report WHAT`: the page of a run, the report of an experiment over its runs, or of all experiments."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fires_exp.errors import FiresError
from fires_exp.paper.spec import is_experiment
from fires_exp.paper.write import PAPER, ReportOptions, only_scale, studies_below, write_experiment, write_paper
from fires_exp.report.page import write_page

USER_ERROR = 2
RUNS = Path("runs")


def main(arguments: list[str]) -> int:
    asked = _parser().parse_args(arguments)
    try:
        _report(asked)
    except FiresError as error:
        print(f"fires_exp: {error}", file=sys.stderr)
        return USER_ERROR
    return 0


def _report(asked: argparse.Namespace) -> None:
    what = Path(asked.what)
    options = ReportOptions(
        against=asked.against, cases=tuple(asked.cases) if asked.cases else None, human_eval=tuple(asked.human_eval)
    )
    if asked.what == PAPER and not what.is_dir():
        runs = asked.runs or RUNS
        found = options.human_eval or studies_below(runs)
        written = write_paper(
            asked.experiments, runs, asked.scale, ReportOptions(against=None, cases=options.cases, human_eval=found)
        )
        print(f"{written.text}\n{written.page}")
    elif is_experiment(what):
        written = write_experiment(what, asked.runs or only_scale(RUNS / what.resolve().name), options)
        print(f"{written.text}\n{written.page}")
    else:
        print(write_page(what))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fires_exp.report", description=__doc__.partition(": ")[2])
    parser.add_argument("what", metavar="WHAT", help=f"a run folder, a folder of experiments/, or {PAPER}: all of these")
    runs = f"the sweep's folder, runs/<experiment>/<scale>; for {PAPER} the folder above all sweeps (runs)"
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help=runs)
    parser.add_argument("--scale", default="demo", help=f"for {PAPER}: which scale's sweeps (demo)")
    experiments = f"for {PAPER}: the folder of the experiments (experiments)"
    parser.add_argument("--experiments", type=Path, default=Path("experiments"), metavar="FOLDER", help=experiments)
    parser.add_argument("--against", metavar="ROW", help="mark cells that differ from this row (the one of FIRES, or the first)")
    parser.add_argument("--cases", nargs="+", metavar="ID", help="instances whose completions stand side by side (three)")
    results = "folders with results.json of human evaluations"
    parser.add_argument("--human-eval", nargs="+", type=Path, default=[], metavar="FOLDER", help=results)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
