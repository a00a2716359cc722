"""One self-contained HTML page of a run: `report.html`, from what lies in the run folder and nothing else.

A file that a run did not leave (a zero-shot run has no curves) leaves its section out. All text of models and datasets is
escaped by the template engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fires_exp.errors import StageError
from fires_exp.report.charts import Drawing, learning_curves, share_figures
from fires_exp.report.models import trained_model
from fires_exp.report.plots import STATUS_COLORS, VARIABLES
from fires_exp.report.provenance import badges_of, choices_made
from fires_exp.report.sections import (
    ComparisonTable,
    MetricsTable,
    PredictionCard,
    SampleGroup,
    comparisons_on_page,
    metrics_on_page,
    prediction_cards,
    sample_groups,
)
from fires_exp.report.templates import render
from fires_exp.storage.run_files import read_object, read_rows
from fires_exp.thinking.aspects import Aspect
from fires_exp.thinking.bank import read_bank
from fires_exp.training.loggers.panels import POLICY_NAMES

ALL_STAGES = ("sft", "grpo")  # taken for done where no configuration says which were
LETTERS_SHOWN = 360  # of a response; the rest of a longer one is folded


@dataclass(frozen=True, kw_only=True, slots=True)
class StageLine:
    stage: str
    key: str
    reused: bool
    took: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PageFacts:
    """All that the page shows; empty tuples, empty texts and None leave their section out.

    `facts` are pairs of a word and what it says, e.g. ("backbone", "smollm2_vl"); `outcome` is good, bad or open.
    """

    name: str
    status: str
    outcome: str
    facts: tuple[tuple[str, str], ...]
    badges: tuple[str, ...]
    instances: int | None
    metrics: MetricsTable | None
    comparisons: ComparisonTable | None
    absent: tuple[tuple[str, str], ...]
    resampling: str
    curves: tuple[Drawing, ...]
    frame_sensitivity: str
    shares: tuple[Drawing, ...]
    share_colors: tuple[tuple[str, str], ...]
    predictions: tuple[PredictionCard, ...]
    letters_shown: int
    groups: tuple[SampleGroup, ...]
    stages: tuple[StageLine, ...]
    memory: str
    versions: tuple[tuple[str, str], ...]
    config: str


def write_page(run_folder: Path) -> Path:
    """Write `report.html` into a run folder and return its path. Raises `StageError` where the folder holds no run or a file
    of it cannot be read."""
    if not (run_folder / "run.json").is_file():
        raise StageError(f"{run_folder} is no run folder: it has no run.json; name a folder that a run has written")
    path = run_folder / "report.html"
    path.write_text(render("report/page.html", page=gather(run_folder)), encoding="utf-8")
    return path


def gather(run_folder: Path) -> PageFacts:
    """What the page shows, from the files that are there and that are of this run: an earlier run in the same folder may have
    left some, so what the configuration does not make is left out."""
    run = read_object(run_folder / "run.json")
    resolved = run_folder / "resolved.yaml"
    config = yaml.safe_load(resolved.read_text(encoding="utf-8")) if resolved.is_file() else {}
    stages = config.get("recipe", {}).get("stages", ALL_STAGES)
    asked = config.get("recipe", {}).get("policies", POLICY_NAMES)
    table = read_object(run_folder / "metrics.json")
    stranger = _other_run(table, config)
    if stranger:
        table, asked = {}, ()
    paths = {name: run_folder / "predictions" / f"{name}.jsonl" for name in POLICY_NAMES if name in asked}
    policies = {name: read_rows(path) for name, path in paths.items() if path.is_file()}
    bank = run_folder / "thoughts.jsonl"
    thinks = config.get("aspects", {}).get("plan") != "none"
    thoughts = [banked.thought for banked in read_bank(bank).values()] if thinks and bank.is_file() else []
    kept_shares = {Aspect(name).label: shares for name, shares in table.get("teacher_aspect_shares", {}).items()}
    of_models = {} if "score" in stages else config  # the rest of a configuration that scores files tells nothing of them
    choices = choices_made(table, of_models, stages, thinks=bool(thoughts or kept_shares))
    status = run.get("status", "")
    return PageFacts(
        name=run.get("name", run_folder.name),
        status="running, or stopped without a word" if status == "running" else status,
        outcome={"finished": "good", "running": "open"}.get(status, "bad"),
        facts=_facts(run, choices),
        badges=(*badges_of(run, of_models, choices), *stranger, *_unfinished(status, table)),
        instances=table.get("instances"),
        metrics=metrics_on_page(table.get("policies", {})),
        comparisons=comparisons_on_page(table.get("comparisons", ())),
        absent=tuple((metric["name"], metric["reason"]) for metric in table.get("absent", ())),
        resampling=_resampling(table),
        curves=learning_curves([row for row in read_rows(run_folder / "metrics.jsonl") if row["stage"] in stages]),
        frame_sensitivity=_frame_sensitivity(read_object(run_folder / "frame_sensitivity.json")) if "sft" in stages else "",
        shares=share_figures(thoughts, kept_shares, policies, ident="s"),
        share_colors=tuple((status, VARIABLES.get(color, color)) for status, color in STATUS_COLORS.items()),
        predictions=prediction_cards(policies, None),
        letters_shown=LETTERS_SHOWN,
        groups=sample_groups(read_rows(run_folder / "completions.jsonl")) if "grpo" in stages else (),
        stages=_stages(run.get("stages", ()), config.get("recipe", {}).get("policies", ())),
        memory=_memory(run),
        versions=tuple((name, version or "not installed") for name, version in _versions(run)),
        config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True) if config else "",
    )


def _other_run(table: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[str, ...]:
    """A badge where the folder's table is of a run with another name, backbone or reward than the configuration's."""
    configured = {"name": config.get("name"), "backbone": trained_model(config), "reward": config.get("reward", {}).get("name")}
    strange = [
        str(table[key]) for key, value in configured.items() if None not in (value, table.get(key)) and table[key] != value
    ]
    return (f"table and answers left out: they are of an earlier run in this folder ({', '.join(strange)})",) if strange else ()


def _facts(run: Mapping[str, Any], choices: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    commit = run.get("commit") or ""
    found = {
        **choices,
        "seed": run.get("seed"),
        "commit": commit[:10] + (" with changes" if commit.endswith("+changes") else ""),
        "machine": run.get("machine"),
        "started": run.get("started", "")[:16].replace("T", " ") + " UTC" if run.get("started") else None,
        "took": in_words(run["seconds"]) if "seconds" in run else None,
    }
    return tuple((name, str(value)) for name, value in found.items() if value not in (None, ""))


def _unfinished(status: str, table: Mapping[str, Any]) -> tuple[str, ...]:
    """A run writes its table at its end."""
    if status == "finished" or not table:
        return ()
    return ("this run did not finish: table and answers may be of an earlier one in this folder",)


def _frame_sensitivity(frame_sensitivity: Mapping[str, Any]) -> str:
    if not frame_sensitivity:
        return ""
    effect = frame_sensitivity["nats_per_token"]
    if effect == 0:
        return "Frame sensitivity: another instance's frames change nothing. FRAMES HAVE NO EFFECT on this policy."
    return (
        f"Frame sensitivity: another instance's frames change the log-probabilities of a reference by {effect:.4f} nats a token."
    )


def _resampling(table: Mapping[str, Any]) -> str:
    """What stands in brackets; nothing for a table from before there were intervals."""
    if "confidence" not in table:
        return ""
    return f"{100 * table['confidence']:g} % interval from {table['bootstrap_samples']} resamples of the instances"


def _stages(stages: Sequence[Mapping[str, Any]], policies: Sequence[str]) -> tuple[StageLine, ...]:
    """The stages in the order they were made; predictions are told apart by their policy where there is one for each."""
    answered = iter(policies if sum(stage["stage"] == "predictions" for stage in stages) == len(policies) else ())
    lines = []
    for stage in stages:
        policy = next(answered, None) if stage["stage"] == "predictions" else None
        name = stage["stage"] if policy is None else f"{stage['stage']}, {POLICY_NAMES.get(policy, policy)}"
        lines.append(StageLine(stage=name, key=stage["key"], reused=stage["reused"], took=in_words(stage["seconds"])))
    return tuple(lines)


def _memory(run: Mapping[str, Any]) -> str:
    held = {"": run.get("peak_memory_bytes"), " on the GPU": run.get("peak_gpu_memory_bytes")}
    return ", ".join(f"{count / 1e9:.2f} GB{where}" for where, count in held.items() if count)


def _versions(run: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    python = [("python", run["python"])] if "python" in run else []
    return python + list(run.get("versions", {}).items())


def in_words(seconds: float) -> str:
    """A duration as people say it.

    >>> in_words(4000)
    '1 h 07 min'
    """
    if seconds < 90:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
