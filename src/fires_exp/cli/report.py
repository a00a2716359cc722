"""`fires-exp report WHAT`: the page of a run, the report of a table over its runs, or of the whole paper."""

from __future__ import annotations

import argparse
from pathlib import Path

from fires_exp.cli.console import command
from fires_exp.paper.spec import is_experiment
from fires_exp.paper.write import PAPER, ReportOptions, only_scale, studies_below, write_experiment, write_paper
from fires_exp.report.page import write_page

RUNS = Path("runs")


@command
def main(arguments: list[str]) -> None:
    options = _parser().parse_args(arguments)
    what = Path(options.what)
    choices = ReportOptions(
        against=options.against, cases=tuple(options.cases) if options.cases else None, human_eval=tuple(options.human_eval)
    )
    if options.what == PAPER and not what.is_dir():
        runs = options.runs or RUNS
        studies = choices.human_eval or studies_below(runs)
        written = write_paper(
            options.experiments, runs, options.scale, ReportOptions(against=None, cases=choices.cases, human_eval=studies)
        )
        print(f"{written.text}\n{written.page}")
    elif is_experiment(what):
        written = write_experiment(what, options.runs or only_scale(RUNS / what.resolve().name), choices)
        print(f"{written.text}\n{written.page}")
    else:
        print(write_page(what))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fires-exp report", description=__doc__.partition(": ")[2])
    parser.add_argument("what", metavar="WHAT", help=f"a run folder, a folder of experiments/, or {PAPER}: all of these")
    runs = f"the sweep's folder, runs/<experiment>/<scale>; for {PAPER} the folder above all sweeps (runs)"
    parser.add_argument("--runs", type=Path, metavar="FOLDER", help=runs)
    parser.add_argument("--scale", default="demo", help=f"for {PAPER}: the scale of the sweeps (default: demo)")
    experiments = f"for {PAPER}: the folder of the experiments (experiments)"
    parser.add_argument("--experiments", type=Path, default=Path("experiments"), metavar="FOLDER", help=experiments)
    parser.add_argument(
        "--against", metavar="ROW", help="mark cells that differ from this row (default: the row of FIRES, or the first)"
    )
    parser.add_argument(
        "--cases", nargs="+", metavar="ID", help="instances whose completions are shown side by side (default: three)"
    )
    results = "folders with results.json of human evaluations"
    parser.add_argument("--human-eval", nargs="+", type=Path, default=[], metavar="FOLDER", help=results)
    return parser
