"""`fires-exp sweep experiments/table4_aspects --scale demo --seeds 42,43 [override …]`: the rows of a table of the paper.

Each row and seed is a run of its own in `runs/<table>/<scale>/<experiment>/seed_<n>/`. Stages that rows share are computed once,
also where runs go in parallel (`--jobs`). With an override `hydra/launcher=…`, that launcher starts each run, `--jobs` of them at
a time. A failed run is reported in one line and the others go on; the same command again runs what is missing and resumes what
was stopped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tqdm import tqdm

from fires_exp.cli.console import command, print_error
from fires_exp.config.options import groups
from fires_exp.errors import ConfigError, ExitCode
from fires_exp.storage.run_files import TERMINAL, completed_stages, refusal

OVERRIDES_FILE = "sweep.json"
RUN_RECORD = "run.json"
FINISHED = "finished"
LAUNCHER = "hydra/launcher="
# what a row at the paper's scale runs on, beside scale=paper; an override of the command line wins
PAPER_SETUP = ("dataset=mesc", "backbone=qwen2_5_vl_7b", "trainer=gpu")


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepRun:
    """One row with one seed. `overrides` determine its results; `hydra_overrides` only how it is started."""

    row: str
    experiment: str
    seed: int
    folder: Path
    overrides: tuple[str, ...]
    hydra_overrides: tuple[str, ...]

    @property
    def command(self) -> list[str]:
        """The command line that runs it in its folder. Hydra's launchers need -m, here with a single job."""
        if any(override.startswith(LAUNCHER) for override in self.hydra_overrides):
            folder_options = ["-m", f"hydra.sweep.dir={self.folder}", "hydra.sweep.subdir=."]
        else:
            folder_options = [f"hydra.run.dir={self.folder}"]
        return [sys.executable, "-m", "fires_exp", *folder_options, *self.overrides, *self.hydra_overrides]

    @property
    def is_finished(self) -> bool:
        """Whether the folder holds a finished run of exactly these overrides."""
        return _read(self.folder / OVERRIDES_FILE).get("overrides") == list(self.overrides) and (
            _read(self.folder / RUN_RECORD).get("status") == FINISHED
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepResult:
    """How a run ended: `failure` is empty for a finished one. `started` is False where it was finished before. `computed` and
    `reused` are the keys of its stages."""

    run: SweepRun
    failure: str
    started: bool
    computed: tuple[str, ...]
    reused: tuple[str, ...]
    seconds: float


def plan(table: Path, scale: str, seeds: Sequence[int], extra: Sequence[str], out: Path) -> list[SweepRun]:
    """The runs of a table in row order, seed by seed. Raises `ConfigError` for an unknown folder or scale."""
    if not (table / "runs.yaml").is_file():
        raise ConfigError(f"{table}: no runs.yaml; name a folder of experiments/, such as experiments/table4_aspects")
    scales = groups()["scale"]
    if scale not in scales:
        raise ConfigError(f"--scale {scale}: choose one of {', '.join(scales)}")
    hydra_overrides = tuple(override for override in extra if override.startswith(("hydra/", "hydra.")))
    settings = [override for override in extra if override not in hydra_overrides]
    sized = (f"scale={scale}", *(PAPER_SETUP if scale == "paper" else ()))
    rows = yaml.safe_load((table / "runs.yaml").read_text(encoding="utf-8"))
    return [
        SweepRun(
            row=row["row"],
            experiment=row["experiment"],
            seed=seed,
            folder=out / table.name / scale / row["experiment"] / f"seed_{seed}",
            overrides=(f"+experiment={row['experiment']}", f"seed={seed}", *sized, *settings),
            hydra_overrides=hydra_overrides,
        )
        for seed in seeds
        for row in rows
    ]


def run_one(run: SweepRun) -> SweepResult:
    """Run it unless it is finished. Its output goes to `terminal.log` in its folder."""
    if run.is_finished:
        return _result(run, failure="", started=False)
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / OVERRIDES_FILE).write_text(json.dumps({"overrides": run.overrides}, indent=1) + "\n", encoding="utf-8")
    (run.folder / RUN_RECORD).unlink(missing_ok=True)  # of other overrides, or of a run that did not finish
    log = run.folder / TERMINAL
    with log.open("w", encoding="utf-8") as terminal:
        status = subprocess.run(run.command, stdout=terminal, stderr=subprocess.STDOUT, check=False).returncode
    reason = refusal(run.folder) or f"ended with status {status}; {log} has its output"
    return _result(run, failure=reason if status != ExitCode.DONE else "", started=True)


def _result(run: SweepRun, *, failure: str, started: bool) -> SweepResult:
    record = _read(run.folder / RUN_RECORD)
    stages = completed_stages(record)
    return SweepResult(
        run=run,
        failure=failure,
        started=started,
        computed=tuple(f"{stage['stage']}/{stage['key']}" for stage in stages if not stage["reused"]),
        reused=tuple(f"{stage['stage']}/{stage['key']}" for stage in stages if stage["reused"]),
        seconds=float(record.get("seconds", 0.0)),
    )


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; empty where the file is missing or damaged."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content


def summary(results: Sequence[SweepResult]) -> str:
    """A line for each run, then the number of stages that this call computed and reused."""
    width = max(len(result.run.row) for result in results)
    lines = []
    for result in results:
        if result.failure:
            state = f"failed: {result.failure}"
        else:
            state = f"{result.seconds:.0f} s" if result.started else "was finished already"
        lines.append(f"{result.run.row:<{width}}  seed {result.run.seed}  {state}")
    started = [result for result in results if result.started]
    computed, reused = sum(len(result.computed) for result in started), sum(len(result.reused) for result in started)
    finished = sum(not result.failure for result in results)
    lines.append(f"stages: {computed} computed, {reused} reused; runs: {finished} of {len(results)} finished")
    return "\n".join(lines)


def sweep(runs: Sequence[SweepRun], parallel: int) -> list[SweepResult]:
    """All runs in order, `parallel` at a time, with a progress bar."""
    results = []
    with ThreadPoolExecutor(parallel) as pool, tqdm(total=len(runs), desc="runs", unit="run") as bar:
        try:
            for result in pool.map(run_one, runs):
                results.append(result)
                bar.update()
                if result.failure:
                    bar.write(f"{result.run.experiment}, seed {result.run.seed}: {result.failure}", file=sys.stderr)
        except KeyboardInterrupt:  # the running processes get it too; the waiting ones must not start
            pool.shutdown(cancel_futures=True)
            raise
    return results


@command
def main(arguments: list[str]) -> int:
    options = _parser().parse_intermixed_args(arguments)
    if not all(seed.isdecimal() for seed in options.seeds.split(",")):
        raise ConfigError(f"--seeds {options.seeds}: write numbers such as 42,43")
    if options.jobs < 1:
        raise ConfigError(f"--jobs {options.jobs}: write at least 1")
    seeds = [int(seed) for seed in options.seeds.split(",")]
    runs = plan(options.table, options.scale, seeds, options.overrides, options.out)
    try:
        results = sweep(runs, options.jobs)
    except KeyboardInterrupt:
        print_error("interrupted; the same command continues")
        return ExitCode.INTERRUPTED
    print(summary(results))
    return ExitCode.INCOMPLETE if any(result.failure for result in results) else ExitCode.DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fires-exp sweep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path, help="a folder of experiments/")
    parser.add_argument("--scale", default="demo", help="demo (the default), paper or smoke, as scale= of a run")
    parser.add_argument("--seeds", default="42", help="seeds, such as 42,43,44 (default: 42)")
    parser.add_argument("--jobs", type=int, default=1, help="how many runs go in parallel (default: 1)")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder for the runs (default: runs)")
    parser.add_argument("overrides", nargs="*", help="overrides for every row, such as dataset.root=…")
    return parser
