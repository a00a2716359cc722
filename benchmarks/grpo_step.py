"""The cost of a GRPO step here and in trl, with the same weights, adapter, prompts and images, compared with the floor.

    make bench-trl                                                  trl in an environment of its own, .venv-trl
    python benchmarks/grpo_step.py --shape text frames              both sides on the embedded backbone, CPU
    python benchmarks/grpo_step.py --shape long --device cuda --backbone qwen7b_random --json step.json
    python benchmarks/grpo_step.py --sweep --out docs               our step alone as G and frames grow

Each side is a process that keeps its model loaded. The sides alternate, one step each, and never run at the same time. The first
round is a warm-up; numbers are medians of the others. docs/performance.md explains how to read them.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from step_clock import PARTS
from step_task import BACKBONES, SHAPES, Shape, StepTask
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
TRL_PYTHON = HERE.parent / ".venv-trl" / "bin" / "python"
ROWS = (*PARTS, "whole")


class Side:
    """A child process that holds a model and runs one step at a time."""

    def __init__(self, name: str, python: Path | str, task: StepTask) -> None:
        self.name = name
        command = [str(python), str(HERE / f"{name}_step.py"), task.to_json()]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.facts = self._read()

    def step(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            reason = "was killed, most likely for memory: --checkpointing on or --dtype bfloat16 needs less"
            sys.exit(
                f"grpo_step: the side '{self.name}' "
                + (reason if code == -signal.SIGKILL else f"ended with code {code}; its output is above")
            )
        message: dict[str, Any] = json.loads(line)
        return message


def measure(task: StepTask, pythons: dict[str, Path | str], title: str) -> dict[str, Any]:
    """Run the rounds of one task on all sides; exit if the sides did not do the same work."""
    sides = [Side(name, python, task) for name, python in pythons.items()]
    reports: dict[str, list[dict[str, Any]]] = {side.name: [] for side in sides}
    try:
        if len({side.facts["weights"] for side in sides}) > 1:
            sys.exit(f"grpo_step: the sides have different weights: {[side.facts for side in sides]}")
        for index in tqdm(range(task.rounds), desc=title, unit="round"):
            # each side goes first every other time
            for side in sides if index % 2 else sides[::-1]:
                reports[side.name].append(side.step())
            check_same_work([reports[side.name][-1] for side in sides], task)
    finally:
        for side in sides:
            side.close()
    counted = {name: side_reports[1:] for name, side_reports in reports.items()}
    result: dict[str, Any] = {
        "task": asdict(task),
        "dtype": sides[0].facts["dtype"],
        "versions": {name: value for side in sides for name, value in side.facts["versions"].items()},
        "prompt_tokens": reports["our"][-1]["prompt_tokens"],
        "rates": sides[0].facts["rates"],
        "work": sides[0].facts["work"],
        "floor_seconds": sides[0].facts["floor_seconds"],
        "seconds": {name: medians(side_reports, "seconds") for name, side_reports in counted.items()},
        "peak_bytes": {name: medians(side_reports, "peak_bytes") for name, side_reports in counted.items()},
        "resting_bytes": {
            name: statistics.median(report["resting_bytes"] for report in side_reports) for name, side_reports in counted.items()
        },
        "rounds": counted,
    }
    result["times_floor"] = result["seconds"]["our"]["whole"] / result["floor_seconds"]["whole"]
    if "trl" in counted:
        result["times_faster"] = ratios(result["seconds"]["trl"], result["seconds"]["our"])
        result["memory_share"] = ratios(result["peak_bytes"]["our"], result["peak_bytes"]["trl"])
    return result


def check_same_work(reports: list[dict[str, Any]], task: StepTask) -> None:
    """Exit unless all sides read the same prompts and every completion has its full length."""
    if len({report["prompts_fingerprint"] for report in reports}) > 1:
        sys.exit(f"grpo_step: the sides read different prompts, of {[report['prompt_tokens'] for report in reports]} tokens")
    expected = [task.new_tokens] * (task.prompts * task.generations)
    for report in reports:
        if report["completion_tokens"] != expected:
            sys.exit(f"grpo_step: completions of {report['completion_tokens']} tokens, not all {task.new_tokens}")


def medians(reports: list[dict[str, Any]], key: str) -> dict[str, float]:
    return {row: statistics.median(report[key][row] for report in reports) for row in ROWS}


def ratios(above: dict[str, float], below: dict[str, float]) -> dict[str, float]:
    return {row: above[row] / below[row] for row in ROWS if below[row] > 0}


def table(result: dict[str, Any]) -> str:
    """Seconds and peak memory by part, with ratios where both sides ran."""
    task, floor = result["task"], result["floor_seconds"]
    both = "trl" in result["seconds"]
    lines = [
        f"{task['backbone']} on {task['device']}, {result['dtype']}, {task['prompts']} x {result['prompt_tokens'][0]} prompt "
        f"tokens with {task['shape']['frames']} frames, G = {task['generations']}, {task['new_tokens']} new tokens, "
        f"median of {task['rounds'] - 1}",
        f"{'':<11}{'seconds':>9}{'floor':>9}" + (f"{'trl':>9}{'trl/our':>9}" if both else "")
        + f"{'peak GiB':>11}" + (f"{'trl':>9}{'our/trl':>9}" if both else ""),
    ]  # fmt: skip
    for row in ROWS:
        line = f"{row:<11}{result['seconds']['our'][row]:>9.3f}{floor.get(row, 0.0):>9.3f}"
        if both:
            line += f"{result['seconds']['trl'][row]:>9.3f}{result['times_faster'].get(row, float('nan')):>8.2f}x"
        line += f"{result['peak_bytes']['our'][row] / 2**30:>11.2f}"
        if both:
            line += f"{result['peak_bytes']['trl'][row] / 2**30:>9.2f}{result['memory_share'].get(row, float('nan')):>8.2f}x"
        lines.append(line)
    rates = result["rates"]
    lines.append(
        f"whole step / floor: {result['times_floor']:.2f} (measured {rates['flops_per_second'] / 1e9:,.0f} GFLOP/s, "
        f"{rates['bytes_per_second'] / 1e9:,.1f} GB/s)"
    )
    return "\n".join(lines)


def task_of(arguments: argparse.Namespace, shape: Shape) -> StepTask:
    random_qwen = arguments.backbone.endswith("_random")
    default = "bfloat16" if arguments.device == "cuda" else "float32"
    return StepTask(
        shape=shape,
        backbone=arguments.backbone,
        device=arguments.device,
        dtype=arguments.dtype or default,
        prompts=arguments.prompts,
        generations=arguments.generations,
        new_tokens=arguments.new_tokens,
        rounds=arguments.rounds + 1,
        checkpointing=random_qwen if arguments.checkpointing is None else arguments.checkpointing == "on",
        threads=torch.get_num_threads(),
        seed=arguments.seed,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", nargs="+", choices=list(SHAPES), default=["text", "frames"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--backbone", choices=BACKBONES, default="smollm2_vl")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="default: bfloat16 on a GPU, else float32")
    parser.add_argument("--rounds", type=int, default=3, help="counted rounds; one more warms up")
    parser.add_argument("--prompts", type=int, default=1, help="prompts a step")
    parser.add_argument("--generations", type=int, default=4, help="G")
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--checkpointing", choices=["on", "off"], help="default: on for random Qwens, else off; both sides alike")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write all numbers there")
    parser.add_argument("--trl-python", type=Path, default=TRL_PYTHON, help="a python that has trl; default .venv-trl's")
    parser.add_argument("--without-trl", action="store_true", help="our side and the floor only")
    parser.add_argument("--sweep", action="store_true", help="our side as G and frames grow, into --out")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder for the sweep's grpo_step.json and grpo_step.svg")
    arguments = parser.parse_args()
    pythons: dict[str, Path | str] = {"our": sys.executable}
    if arguments.sweep:
        from step_sweep import sweep

        frames = SHAPES["long" if arguments.device == "cuda" else "frames"]
        sweep(task_of(arguments, frames), lambda task, title: measure(task, pythons, title), arguments.out)
        return
    if not arguments.without_trl:
        if not arguments.trl_python.exists():
            sys.exit(f"grpo_step: no {arguments.trl_python}; run `make bench-trl`, or write --without-trl or --trl-python PYTHON")
        pythons["trl"] = arguments.trl_python
    results = {}
    for name in arguments.shape:
        results[name] = measure(task_of(arguments, SHAPES[name]), pythons, name)
        print(f"\n{name}: {table(results[name])}\n", flush=True)
        if arguments.json:  # after every shape: a long run that is stopped keeps what it has
            arguments.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
