"""Does memory stay constant over a long run? Resident memory over many steps of SFT and of GRPO on the tiny backbone.

Each stage is a run in a child process (`python -m fires_exp`) with checkpoints, logs and completions on disk. Its memory is
sampled a few times per second together with the number of logged steps. The first fifth is a warm-up; a line is fitted to the
rest. Its slope in bytes per step and in megabytes per ten thousand steps, with its standard error, shows whether there is a leak.

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
    """Logged steps and resident bytes, sampled while a stage runs; it is killed after `minutes`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [
            sys.executable, "-m", "fires_exp", "+experiment=smoke", *STAGES[stage], "reward=wo_support_skill",
            "dataset.limit.train=64", "sft.max_steps=null", "sft.epochs=1000", "grpo.max_steps=null", "grpo.epochs=1000",
            "sft.checkpoint_every_steps=20", "grpo.checkpoint_every_steps=20", "trainer.progress=false", "logger=csv",
            f"hydra.run.dir={folder / 'run'}", f"paths.artifacts={folder / 'artifacts'}", f"seed={seed}",
        ]  # fmt: skip
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        steps: list[float] = []
        resident: list[float] = []
        started: float | None = None
        try:
            process = psutil.Process(child.pid)
            while started is None or time.monotonic() - started < 60 * minutes:
                time.sleep(SAMPLED_EVERY_SECONDS)
                if child.poll() is not None:
                    raise SystemExit(f"the {stage} run ended early: {child.stderr.read() if child.stderr else ''}")
                logged = list(folder.glob(f"artifacts/{stage}/*/metrics.jsonl"))
                if logged and (count := _lines(logged[0])):
                    started = started or time.monotonic()
                    steps.append(count)
                    resident.append(process.memory_info().rss)
        finally:
            child.kill()
            child.wait()
    return {"steps": steps, "bytes": resident}


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def slope(steps: Sequence[float], resident: Sequence[float]) -> dict[str, float]:
    """The slope after the warm-up in bytes per step, with its standard error. Neighboring samples are not independent, so they
    are first averaged in twenty equal segments."""
    first = int(len(steps) * WARM_UP)
    x, y = (np.array([piece.mean() for piece in np.array_split(np.asarray(series[first:]), 20)]) for series in (steps, resident))
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
        samples = watch(stage, arguments.minutes, arguments.seed)
        results[stage] = slope(samples["steps"], samples["bytes"])
        print(stage, json.dumps(results[stage]), flush=True)
        thin = max(1, len(samples["steps"]) // 300)
        megabytes = [round(size / 1e6, 1) for size in samples["bytes"][::thin]]
        results[stage] |= {"curve": {"steps": samples["steps"][::thin], "megabytes": megabytes}}
        lines.append(Curve(name=stage, steps=samples["steps"][::thin], values=megabytes))
    (arguments.out / "soak.json").write_text(json.dumps(results) + "\n")
    (arguments.out / "soak.svg").write_text(curves_over_steps("Resident memory (MB) over steps", lines, ident="soak") + "\n")


if __name__ == "__main__":
    main()
