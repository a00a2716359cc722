"""How long does the report of a table take, from ten to a thousand runs?

One small run is made (the tiny backbone, 40 test examples) and its folder is copied to every row and seed of a table. Each count
is read by `fires-exp report` in its own process; the time includes the start of Python.

    python benchmarks/report_growth.py [--runs 10 100 1000] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import yaml

TABLE = Path(__file__).resolve().parents[1] / "experiments" / "table2_components"
RUN = [
    "+experiment=smoke", "recipe=sft_only", "recipe.policies=[sft]", "aspects=no_thought", "dataset.limit.test=40",
    "dataset.limit.train=8", "trainer.progress=false", "logger=csv",
]  # fmt: skip


def one_run(folder: Path) -> Path:
    """A finished run's folder."""
    paths = [f"hydra.run.dir={folder / 'run'}", f"paths.artifacts={folder / 'artifacts'}"]
    subprocess.run([sys.executable, "-m", "fires_exp", *RUN, *paths], check=True, capture_output=True)
    return folder / "run"


def report_seconds(run: Path, folder: Path, count: int) -> float:
    """Seconds of the report over `count` copies of a run."""
    rows = [row["experiment"] for row in yaml.safe_load((TABLE / "runs.yaml").read_text())]
    scale = folder / TABLE.name / "demo"
    for number in range(count):
        shutil.copytree(run, scale / rows[number % len(rows)] / f"seed_{number // len(rows)}")
    started = time.perf_counter()
    command = [sys.executable, "-m", "fires_exp", "report", str(TABLE), "--runs", str(scale)]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as name:
        run = one_run(Path(name))
        for count in arguments.runs:
            with tempfile.TemporaryDirectory() as folder:
                results[count] = round(report_seconds(run, Path(folder), count), 2)
            print(f"{count:>6} runs: {results[count]:.1f} s", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results) + "\n")


if __name__ == "__main__":
    main()
