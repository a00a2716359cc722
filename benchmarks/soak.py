"""Is memory flat over a long run? Many steps of SFT and of GRPO on the tiny backbone, resident memory after each.

Each stage is a run of its own in a child process (`python -m fires_exp`), with checkpoints, samples on disk and logs as users
have them. Memory is read from outside, a few times a second, and laid beside the steps that the run has logged by then. The first
fifth warms up; over the rest a line is fitted, and its slope, in bytes a step and in megabytes over ten thousand steps, says
whether anything is kept that should not be. One run's slope is no more than its scatter, so its standard error is told too.

    python benchmarks/soak.py [--minutes 5] [--out docs]      writes soak.json and soak.svg
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import psutil

from fires_exp.report.plots import Curve, curves_over_steps

SAMPLED_EVERY_SECONDS = 0.25
WARM_UP = 0.2
STAGES = {
    "sft": ["recipe.stages=[synthesize,sft]", "recipe.policies=[]"],
    "grpo": ["recipe.stages=[grpo]", "recipe.policies=[]"],
}


def watch(stage: str, minutes: float, seed: int) -> dict[str, list[float]]:
    """Steps done and resident bytes, sampled while a stage runs; it is stopped when its time is over."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        command = [
            sys.executable, "-m", "fires_exp", "+experiment=smoke", *STAGES[stage], "reward=wo_support_skill",
            "dataset.limit.train=64", "sft.max_steps=null", "sft.epochs=1000", "grpo.max_steps=null", "grpo.epochs=1000",
            "sft.checkpoint_every_steps=20", "grpo.checkpoint_every_steps=20", "trainer.progress=false", "logger=csv",
            f"hydra.run.dir={place / 'run'}", f"paths.artifacts={place / 'artifacts'}", f"seed={seed}",
        ]  # fmt: skip
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        steps: list[float] = []
        held: list[float] = []
        started: float | None = None
        try:
            process = psutil.Process(child.pid)
            while started is None or time.monotonic() - started < 60 * minutes:
                time.sleep(SAMPLED_EVERY_SECONDS)
                if child.poll() is not None:
                    raise SystemExit(f"the {stage} run ended by itself: {child.stderr.read() if child.stderr else ''}")
                logged = list(place.glob(f"artifacts/{stage}/*/metrics.jsonl"))
                if logged and (count := _lines(logged[0])):
                    started = started or time.monotonic()
                    steps.append(count)
                    held.append(process.memory_info().rss)
        finally:
            child.kill()
            child.wait()
    return {"steps": steps, "bytes": held}


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def slope(steps: Sequence[float], held: Sequence[float]) -> dict[str, float]:
    """Of the line through what comes after the warm-up: bytes a step, with the standard error that neighboring samples, which
    are not independent, leave: samples are averaged over twenty equal pieces first."""
    first = int(len(steps) * WARM_UP)
    x, y = (np.array([piece.mean() for piece in np.array_split(np.asarray(one[first:]), 20)]) for one in (steps, held))
    (rate, start), covariance = np.polyfit(x, y, 1, cov=True)
    return {
        "bytes_a_step": float(rate),
        "standard_error": float(np.sqrt(covariance[0, 0])),
        "megabytes_in_10000_steps": float(rate) / 100,
        "megabytes_at_the_start": float(start + rate * x[0]) / 1e6,
        "steps": float(steps[-1]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0, help="of each stage, from its first step")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    arguments = parser.parse_args()
    results: dict[str, Any] = {}
    lines = []
    for stage in STAGES:
        seen = watch(stage, arguments.minutes, arguments.seed)
        results[stage] = slope(seen["steps"], seen["bytes"])
        print(stage, json.dumps(results[stage]), flush=True)
        thin = max(1, len(seen["steps"]) // 300)
        megabytes = [round(held / 1e6, 1) for held in seen["bytes"][::thin]]
        results[stage] |= {"curve": {"steps": seen["steps"][::thin], "megabytes": megabytes}}
        lines.append(Curve(name=stage, steps=seen["steps"][::thin], values=megabytes))
    (arguments.out / "soak.json").write_text(json.dumps(results) + "\n")
    (arguments.out / "soak.svg").write_text(curves_over_steps("Resident memory (MB) over steps", lines, ident="soak") + "\n")


if __name__ == "__main__":
    main()
