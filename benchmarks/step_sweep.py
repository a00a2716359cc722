"""The cost of a step as G and frames grow: numbers as JSON, and a plot."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
from matplotlib.figure import Figure
from step_clock import PARTS
from step_task import Shape, StepTask

GENERATIONS = (1, 2, 4, 8, 16)
FRAMES = (0, 4, 8, 16)
COLORS = ("#999999", "#0072b2", "#009e73", "#d55e00", "#cc79a7")


def sweep(task: StepTask, measure: Callable[[StepTask, str], dict[str, Any]], out: Path) -> None:
    """Time the task as G grows, then as frames grow with the same text, into `grpo_step.json` and `grpo_step.svg`."""
    by_generations = {
        count: _brief(measure(replace(task, generations=count), f"G = {count}")) for count in GENERATIONS
    }  # fmt: skip
    by_frames = {
        count: _brief(measure(replace(task, shape=with_frames(task.shape, count)), f"{count} frames")) for count in FRAMES
    }
    wholes = [by_generations[count]["seconds"]["whole"] for count in GENERATIONS]
    each, shared = numpy.polyfit(GENERATIONS, wholes, 1)
    numbers = {
        "backbone": task.backbone,
        "device": task.device,
        "dtype": task.dtype,
        "new_tokens": task.new_tokens,
        "rounds": task.rounds - 1,
        "seconds_a_prompt": round(float(shared), 3),
        "seconds_a_completion": round(float(each), 3),
        "by_generations": by_generations,
        "by_frames": by_frames,
    }
    (out / "grpo_step.json").write_text(json.dumps(numbers, indent=1) + "\n")
    draw(by_generations, by_frames, out / "grpo_step.svg")
    print(f"a step takes {shared:.2f} s a prompt and {each:.2f} s a completion (least squares over G)")


def with_frames(shape: Shape, frames: int) -> Shape:
    """The same text with fewer frames: every frame brings its merged patches and two markers."""
    tokens = shape.frame_width // 28 * (shape.frame_height // 28) + 2
    return replace(shape, frames=frames, prompt_tokens=shape.prompt_tokens - (shape.frames - frames) * tokens)


def _brief(result: dict[str, Any]) -> dict[str, Any]:
    return {
        "prompt_tokens": result["prompt_tokens"][0],
        "seconds": {part: round(seconds, 4) for part, seconds in result["seconds"]["our"].items()},
        "peak_bytes": int(result["peak_bytes"]["our"]["whole"]),
        "floor_seconds": round(result["floor_seconds"]["whole"], 4),
    }


def draw(by_generations: dict[int, Any], by_frames: dict[int, Any], path: Path) -> None:
    """Bars of the step's parts, stacked, with a dash at the floor."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, points, label in zip(panels, (by_generations, by_frames), ("completions a prompt, G", "frames"), strict=True):
        positions = range(len(points))
        bottom = numpy.zeros(len(points))
        for part, color in zip(PARTS, COLORS, strict=True):
            heights = numpy.array([point["seconds"][part] for point in points.values()])
            axes.bar(positions, heights, bottom=bottom, color=color, width=0.6, label=part)
            bottom += heights
        floors = [point["floor_seconds"] for point in points.values()]
        axes.hlines(floors, [x - 0.4 for x in positions], [x + 0.4 for x in positions], color="black", label="floor")
        axes.set_xticks(list(positions), [str(count) for count in points])
        axes.set_xlabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("seconds a step")
    panels[0].legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})
