"""`python -m fires_exp.cli.sweep experiments/table4_aspects --scale demo --seeds 42,43 [override …]` runs a table's rows.

Every row and seed is a run of its own in `runs/<table>/<scale>/<experiment>/seed_<n>/`. Stages that rows share are made once,
also where runs go at the same time (`--jobs`). With an override `hydra/launcher=…` that launcher starts each run, `--jobs` of
them at a time. A run that fails tells why in one line and the others go on; the same command again runs what is missing, and
what was begun goes on where it was.
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

from fires_exp.config.options import groups
from fires_exp.errors import ConfigError, FiresError
from fires_exp.storage.run_files import TERMINAL, refusal

USER_ERROR = 2
NOT_ALL_DONE = 1
INTERRUPTED = 130

COMMAND = "sweep.json"
RUN_RECORD = "run.json"
FINISHED = "finished"
LAUNCHER = "hydra/launcher="

# what a row at the paper's scale runs on, beside scale=paper; an override of the command line wins
PAPER_SETUP = ("dataset=mesc", "backbone=qwen2_5_vl_7b", "trainer=gpu")


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One row with one seed. `overrides` decide what it is; `hydra` says how it is started."""

    row: str
    experiment: str
    seed: int
    folder: Path
    overrides: tuple[str, ...]
    hydra: tuple[str, ...]

    @property
    def command(self) -> list[str]:
        """What runs it in its folder. A launcher takes multiruns alone: this one has a single job."""
        launched = any(override.startswith(LAUNCHER) for override in self.hydra)
        place = ["-m", f"hydra.sweep.dir={self.folder}", "hydra.sweep.subdir=."] if launched else [f"hydra.run.dir={self.folder}"]
        return [sys.executable, "-m", "fires_exp", *place, *self.overrides, *self.hydra]

    @property
    def is_done(self) -> bool:
        """Whether the folder has a finished run of these very overrides."""
        return _read(self.folder / COMMAND).get("overrides") == list(self.overrides) and (
            _read(self.folder / RUN_RECORD).get("status") == FINISHED
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a job ended: `line` is empty for a finished run, else the reason; `made` and `reused` are its stages' keys."""

    job: Job
    line: str
    ran: bool
    made: tuple[str, ...]
    reused: tuple[str, ...]
    seconds: float


def plan(table: Path, scale: str, seeds: Sequence[int], extra: Sequence[str], out: Path) -> list[Job]:
    """The jobs of a table in row order, seed by seed. Raises `ConfigError` for a folder or a scale that does not exist."""
    if not (table / "runs.yaml").is_file():
        raise ConfigError(f"{table}: no runs.yaml; name a folder of experiments/, such as experiments/table4_aspects")
    scales = groups()["scale"]
    if scale not in scales:
        raise ConfigError(f"--scale {scale}: choose one of {', '.join(scales)}")
    sized = (f"scale={scale}", *(PAPER_SETUP if scale == "paper" else ()))
    hydra = tuple(override for override in extra if override.startswith(("hydra/", "hydra.")))
    settings = [override for override in extra if override not in hydra]
    rows = yaml.safe_load((table / "runs.yaml").read_text(encoding="utf-8"))
    return [
        Job(
            row=row["row"],
            experiment=row["experiment"],
            seed=seed,
            folder=out / table.name / scale / row["experiment"] / f"seed_{seed}",
            overrides=(f"+experiment={row['experiment']}", f"seed={seed}", *sized, *settings),
            hydra=hydra,
        )
        for seed in seeds
        for row in rows
    ]


def run(job: Job) -> Outcome:
    """Run a job unless it is done. What it says goes to `terminal.log` in its folder."""
    if job.is_done:
        return _outcome(job, "", ran=False)
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / COMMAND).write_text(json.dumps({"overrides": job.overrides}, indent=1) + "\n", encoding="utf-8")
    (job.folder / RUN_RECORD).unlink(missing_ok=True)  # of other overrides, or of a run that did not finish
    log = job.folder / TERMINAL
    with log.open("w", encoding="utf-8") as terminal:
        status = subprocess.run(job.command, stdout=terminal, stderr=subprocess.STDOUT, check=False).returncode
    why = refusal(job.folder) or f"ended with status {status}; {log} has what it said"
    return _outcome(job, why if status else "", ran=True)


def _outcome(job: Job, line: str, *, ran: bool) -> Outcome:
    record = _read(job.folder / RUN_RECORD)
    stages = record.get("stages", [])
    return Outcome(
        job=job,
        line=line,
        ran=ran,
        made=tuple(f"{one['stage']}/{one['key']}" for one in stages if not one["reused"]),
        reused=tuple(f"{one['stage']}/{one['key']}" for one in stages if one["reused"]),
        seconds=float(record.get("seconds", 0.0)),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def summary(outcomes: Sequence[Outcome]) -> str:
    """A line a run, then the count of stages over the runs of this call."""
    width = max(len(one.job.row) for one in outcomes)
    lines = []
    for one in outcomes:
        state = (one.line and f"not done: {one.line}") or (f"{one.seconds:.0f} s" if one.ran else "was done already")
        lines.append(f"{one.job.row:<{width}}  seed {one.job.seed}  {state}")
    ran = [one for one in outcomes if one.ran]
    made, reused = sum(len(one.made) for one in ran), sum(len(one.reused) for one in ran)
    left = sum(bool(one.line) for one in outcomes)
    lines.append(f"stages: {made} made, {reused} reused; runs: {len(outcomes) - left} of {len(outcomes)} done")
    return "\n".join(lines)


def sweep(jobs: Sequence[Job], at_once: int) -> list[Outcome]:
    """All jobs in order, `at_once` at a time, under a bar."""
    outcomes = []
    with ThreadPoolExecutor(at_once) as pool, tqdm(total=len(jobs), desc="runs", unit="run") as bar:
        try:
            for outcome in pool.map(run, jobs):
                outcomes.append(outcome)
                bar.update()
                if outcome.line:
                    bar.write(f"{outcome.job.experiment}, seed {outcome.job.seed}: {outcome.line}", file=sys.stderr)
        except KeyboardInterrupt:  # which the runs got too: those that wait are not started
            pool.shutdown(cancel_futures=True)
            raise
    return outcomes


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 all done, 1 some are not (each with its reason), 2 the user's to mend, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m fires_exp.cli.sweep", description=__doc__)
    parser.add_argument("table", type=Path, help="a folder of experiments/")
    parser.add_argument("--scale", default="demo", help="demo, paper or smoke, as scale= of a run")
    parser.add_argument("--seeds", default="42", help="such as 42,43,44")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--out", type=Path, default=Path("runs"), help="folder for the runs")
    parser.add_argument("overrides", nargs="*", help="more overrides for every row, such as dataset.root=…")
    options = parser.parse_intermixed_args(arguments)
    try:
        if not all(seed.isdecimal() for seed in options.seeds.split(",")) or options.jobs < 1:
            raise ConfigError(f"--seeds {options.seeds} --jobs {options.jobs}: write seeds such as 42,43 and at least one job")
        seeds = [int(seed) for seed in options.seeds.split(",")]
        jobs = plan(options.table, options.scale, seeds, options.overrides, options.out)
    except FiresError as error:
        print(f"fires_exp: {error}", file=sys.stderr)
        return USER_ERROR
    try:
        outcomes = sweep(jobs, options.jobs)
    except KeyboardInterrupt:
        print("fires_exp: interrupted; the same command goes on", file=sys.stderr)
        return INTERRUPTED
    print(summary(outcomes))
    return NOT_ALL_DONE if any(one.line for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
