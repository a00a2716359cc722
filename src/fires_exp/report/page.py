"""One self-contained HTML page of a run: `report.html`, from what lies in the run folder and nothing else.

A file that a run did not leave (a zero-shot run has no curves) leaves its section out. All text of models and datasets is
escaped by the template engine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fires_exp.errors import StageError
from fires_exp.metrics.thoughts import aspect_shares
from fires_exp.report.figures import Line, curves, stacked_shares
from fires_exp.report.tables import ARROWS, best_value
from fires_exp.thinking.bank import read_bank
from fires_exp.thinking.thought import Thought, parse_thought

PREDICTIONS_SHOWN = 12
GROUPS_SHOWN = 2

POLICY_NAMES = {"zero_shot": "zero-shot", "sft": "after SFT", "grpo": "after GRPO"}

# title, stage, {metric: its name in the chart}, whether to draw a mean through points
CHARTS: tuple[tuple[str, str, Mapping[str, str], bool], ...] = (
    ("SFT loss", "sft", {"sft/loss": "train", "sft/val_loss": "val"}, False),
    ("Reward", "grpo", {"reward/total": "total"}, True),
    (
        "Reward by part",
        "grpo",
        {"reward/format": "format", "reward/consistency": "consistency", "reward/support_skill": "support skill"},
        False,
    ),
    ("KL from the reference policy", "grpo", {"grpo/kl": "KL, nats a token"}, False),
    ("Entropy", "grpo", {"grpo/entropy": "nats a token"}, False),
    (
        "Shares of completions",
        "grpo",
        {
            "rollout/well_formed_share": "well-formed",
            "rollout/truncated_share": "cut off",
            "rollout/tied_group_share": "tied",
        },
        False,
    ),
    ("Completion length", "grpo", {"rollout/completion_tokens_mean": "mean tokens"}, False),
    (
        "Aspects in sampled thoughts",
        "grpo",
        {
            "aspect/visual_scene": "scene",
            "aspect/emotion": "emotion",
            "aspect/situation": "situation",
            "aspect/response_strategy": "strategy",
        },
        False,
    ),
    ("Gradient norm", "grpo", {"grpo/grad_norm": "before clipping"}, False),
)

HONESTY = {
    ("teacher", "annotations"): "Thoughts to learn from were written by rules from labels and text, by no model.",
    ("backbone", "smollm2_vl"): "The backbone is a 135M stand-in: de-quantised weights, a vision tower that starts untrained.",
    ("backbone", "tiny"): "The backbone is random: this run shows that things run.",
    ("dataset", "sample"): "The conversations are the invented sample corpus.",
    ("reward", "wo_support_skill"): "The reward has no support-skill part.",
}


def write_page(run_folder: Path) -> Path:
    """Write `report.html` into a run folder and return its path. Raises `StageError` where the folder holds no run."""
    if not (run_folder / "run.json").is_file():
        raise StageError(f"{run_folder} is no run folder: it has no run.json; name a folder that a run has written")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    path = run_folder / "report.html"
    path.write_text(environment.get_template("page.html").render(gather(run_folder)), encoding="utf-8")
    return path


def gather(run_folder: Path) -> dict[str, Any]:
    """What the template shows, from the files that are there."""
    run = _json(run_folder / "run.json")
    metrics = _json(run_folder / "metrics.json")
    resolved = run_folder / "resolved.yaml"
    config = yaml.safe_load(resolved.read_text(encoding="utf-8")) if resolved.is_file() else {}
    policies = {
        name: _lines(run_folder / "predictions" / f"{name}.jsonl")
        for name in POLICY_NAMES
        if (run_folder / "predictions" / f"{name}.jsonl").is_file()
    }
    return {
        "run": run,
        "metrics": metrics,
        "honesty": [text for (key, value), text in HONESTY.items() if metrics.get(key) == value],
        "table": metric_lines(metrics.get("policies", {})),
        "policy_names": [POLICY_NAMES.get(name, name) for name in metrics.get("policies", {})],
        "charts": charts(_lines(run_folder / "metrics.jsonl")),
        "shares": share_figures(run_folder, policies),
        "predictions": prediction_cards(policies),
        "samples": sample_groups(_lines(run_folder / "completions.jsonl")),
        "config": yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
    }


def metric_lines(policies: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One line a metric: its name, arrow, provenance, and a cell a policy with its text and whether it is the best."""
    names = list(dict.fromkeys(row["name"] for rows in policies.values() for row in rows))
    lines = []
    for name in names:
        rows = [next((row for row in rows if row["name"] == name), None) for rows in policies.values()]
        there = [row for row in rows if row is not None]
        best = best_value(there)
        cells = [_cell(row, best) for row in rows]
        first = there[0]
        provenance = f"{first['tokens']}; {first['version']}"
        lines.append({"name": name, "arrow": ARROWS[first["direction"]], "cells": cells, "provenance": provenance})
    return lines


def _cell(row: Mapping[str, Any] | None, best: float | None) -> dict[str, Any]:
    if row is None:
        return {"text": "–", "best": False}
    return {"text": f"{row['value']:.2f}", "best": row["value"] == best}


def charts(rows: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """The learning curves for which there is anything to draw."""
    drawn = []
    for number, (title, stage, names, smooth) in enumerate(CHARTS):
        lines = []
        for metric, name in names.items():
            points = [(row["step"], row[metric]) for row in rows if row.get("stage") == stage and metric in row]
            if points:
                steps, values = zip(*points, strict=True)
                lines.append(Line(name=name, steps=steps, values=values))
        if lines:
            drawn.append(Markup(curves(title, lines, ident=f"chart{number}", smooth=smooth)))  # noqa: S704  our own drawing
    return drawn


def share_figures(run_folder: Path, policies: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Markup]:
    """Figure 3 for the teacher's thoughts, and the same for the thoughts of each policy's well-formed predictions."""
    thoughts: dict[str, list[Thought]] = {}
    bank = run_folder / "thoughts.jsonl"
    if bank.is_file():
        thoughts["Teacher"] = [banked.thought for banked in read_bank(bank).values()]
    for name, rows in policies.items():
        said = [row["thought"] for row in rows if row["well_formed"] and row["thought"]]
        thoughts[POLICY_NAMES[name].capitalize()] = [parse_thought(thought) for thought in said]
    return [
        Markup(  # noqa: S704  our own drawing
            stacked_shares(
                {aspect.label: shares for aspect, shares in aspect_shares(group).items()},  # type: ignore[misc]
                f"{title} ({len(group)} thoughts)",
                ident=f"share{number}",
            )
        )
        for number, (title, group) in enumerate(thoughts.items())
        if group
    ]


def prediction_cards(policies: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """A dozen instances, evenly over the file, with every policy's answer beside the reference."""
    if not policies:
        return []
    by_id = {name: {row["id"]: row for row in rows} for name, rows in policies.items()}
    first = next(iter(policies.values()))
    cards = []
    for row in evenly(first, PREDICTIONS_SHOWN):
        answers = [{"policy": POLICY_NAMES[name], **rows[row["id"]]} for name, rows in by_id.items() if row["id"] in rows]
        cards.append({"id": row["id"], "context": row["context"], "reference": row["reference_response"], "answers": answers})
    return cards


def sample_groups(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The first groups of the first and of the last logged GRPO step, each completion with its rewards."""
    steps = sorted({row["step"] for row in rows})
    groups = []
    for step in dict.fromkeys([*steps[:1], *steps[-1:]]):
        of_step = [row for row in rows if row["step"] == step]
        for example in list(dict.fromkeys(row["example_id"] for row in of_step))[:GROUPS_SHOWN]:
            group = [row for row in of_step if row["example_id"] == example]
            rewards = [row["reward"] for row in group]
            groups.append(
                {
                    "step": step,
                    "example": example,
                    "reference": group[0]["reference_response"],
                    "rows": [
                        {
                            **row,
                            "parts": {name.removeprefix("reward_"): row[name] for name in row if name.startswith("reward_")},
                            "place_in_group": "" if min(rewards) == max(rewards) else _place(row["reward"], rewards),
                        }
                        for row in group
                    ],
                }
            )
    return groups


def evenly(rows: Sequence[Any], count: int) -> list[Any]:
    """At most `count` of the rows, spread evenly from the first to the last."""
    if len(rows) <= count:
        return list(rows)
    return [rows[round(place * (len(rows) - 1) / (count - 1))] for place in range(count)]


def _place(reward: float, rewards: Sequence[float]) -> str:
    return "high" if reward == max(rewards) else "low" if reward == min(rewards) else ""


def _json(path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return facts


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]
