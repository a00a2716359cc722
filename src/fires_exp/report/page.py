"""The page of a run, `report.html`: one self-contained HTML file, made from the files of the run folder alone.

It can be written at any time of a run. A section whose file is missing is left out. The template engine escapes every text of
models and datasets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from fires_exp.errors import StageError
from fires_exp.report.charts import Plot, Rows, StagePlots, learning_curves, share_plots
from fires_exp.report.plots import STATUS_COLORS, VARIABLES
from fires_exp.report.provenance import badges_of, choices_made, stage_names, trained_model
from fires_exp.report.sections import (
    PageComparisons,
    PageMetrics,
    PredictionCard,
    SampleGroup,
    comparisons_on_page,
    metrics_on_page,
    prediction_cards,
    sample_groups,
)
from fires_exp.report.templates import render
from fires_exp.storage.files import write_atomically
from fires_exp.storage.run_files import completed_stages, read_first_and_last_step, read_object, read_rows, stage_state
from fires_exp.thinking.aspects import Aspect
from fires_exp.thinking.bank import read_bank
from fires_exp.training.loggers.panels import COMPLETIONS, POLICY_NAMES

LETTERS_SHOWN = 360  # of a response; a longer one is folded
REFRESH_SECONDS = 20  # how often a browser reloads the page of a running run
LIVE_FILES = ("metrics.jsonl", "completions.jsonl")  # appended to during a stage


@dataclass(frozen=True, kw_only=True, slots=True)
class StageLine:
    """A planned stage; `took` is empty while its duration is not known, `key` while its inputs are not."""

    label: str
    state: str
    took: str
    key: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PageFacts:
    """The content of the page; an empty tuple, an empty text or None leaves a section out.

    `facts` are pairs such as ("backbone", "smollm2_vl"). `outcome` is good, bad or open; with `refresh_seconds` the page reloads
    itself.
    """

    name: str
    status: str
    outcome: str
    progress: str
    refresh_seconds: int | None
    facts: tuple[tuple[str, str], ...]
    badges: tuple[str, ...]
    instances: int | None
    metrics: PageMetrics | None
    comparisons: PageComparisons | None
    absent: tuple[tuple[str, str], ...]
    resampling: str
    curves: tuple[StagePlots, ...]
    frame_sensitivity: str
    shares: tuple[Plot, ...]
    share_colors: tuple[tuple[str, str], ...]
    predictions: tuple[PredictionCard, ...]
    letters_shown: int
    groups: tuple[SampleGroup, ...]
    stages: tuple[StageLine, ...]
    memory: str
    versions: tuple[tuple[str, str], ...]
    config: str


def write_page(run_folder: Path) -> Path:
    """Write `report.html` into a run folder and return its path. Raises `StageError` where the folder has no run.json or one of
    its files cannot be read."""
    if not (run_folder / "run.json").is_file():
        raise StageError(f"{run_folder} is no run folder: it has no run.json; name a folder that a run has written")
    path = run_folder / "report.html"
    write_atomically(path, render("report/page.html", page=gather(run_folder)))
    return path


def gather(run_folder: Path) -> PageFacts:
    """The content of the page, from the files of the folder. Rows and answers of stages and policies that are not in the run's
    plan are left out: an earlier run may have used the same folder."""
    record = read_object(run_folder / "run.json")
    resolved = run_folder / "resolved.yaml"
    config = yaml.safe_load(resolved.read_text(encoding="utf-8")) if resolved.is_file() else {}
    table = read_object(run_folder / "metrics.json")
    planned = config.get("recipe", {}).get("policies", POLICY_NAMES)
    other_run = _other_run(table, config)
    if other_run:
        table, planned = {}, ()
    policies = _predictions(run_folder, planned)
    stages = stage_names(record)
    metrics = [row for row in read_rows(run_folder / "metrics.jsonl") if stages is None or row["stage"] in stages]
    bank = run_folder / "thoughts.jsonl"
    thoughts = [banked.thought for banked in read_bank(bank).values()] if bank.is_file() else []
    teacher_shares = {Aspect(name).label: shares for name, shares in table.get("teacher_aspect_shares", {}).items()}
    choices = choices_made(table, config, record)
    status = record.get("status", "")
    return PageFacts(
        name=record.get("name", run_folder.name),
        status=status,
        outcome={"finished": "good", "running": "open"}.get(status, "bad"),
        progress=_progress(run_folder, record, metrics),
        refresh_seconds=REFRESH_SECONDS if status == "running" else None,
        facts=_facts(record, choices),
        badges=(*badges_of(record, config, choices), *other_run, *_unfinished(status, table)),
        instances=table.get("instances"),
        metrics=metrics_on_page(table.get("policies", {})),
        comparisons=comparisons_on_page(table.get("comparisons", ())),
        absent=tuple((metric["name"], metric["reason"]) for metric in table.get("absent", ())),
        resampling=_resampling(table),
        curves=learning_curves(metrics),
        frame_sensitivity=_frame_sensitivity(read_object(run_folder / "frame_sensitivity.json")),
        shares=share_plots(thoughts, teacher_shares, policies, ident="s"),
        share_colors=tuple((name, VARIABLES.get(color, color)) for name, color in STATUS_COLORS.items()),
        predictions=prediction_cards(policies, None),
        letters_shown=LETTERS_SHOWN,
        groups=sample_groups(_samples(run_folder, stages)),
        stages=tuple(_stage_line(stage, record) for stage in record.get("stages", ())),
        memory=_memory(record),
        versions=tuple((name, version or "not installed") for name, version in _versions(record)),
        config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True) if config else "",
    )


def _predictions(run_folder: Path, planned: Sequence[str]) -> dict[str, Rows]:
    """The rows of the planned policies that have answered, in the order of `panels.POLICY_NAMES`."""
    order = [*POLICY_NAMES, *(name for name in planned if name not in POLICY_NAMES)]
    paths = {name: run_folder / "predictions" / f"{name}.jsonl" for name in order if name in planned}
    return {name: read_rows(path) for name, path in paths.items() if path.is_file()}


def _samples(run_folder: Path, stages: frozenset[str] | None) -> Rows:
    """The sampled completions of the first and the last step, where the run samples any."""
    if stages is not None and COMPLETIONS.stage not in stages:
        return []
    return read_first_and_last_step(run_folder / "completions.jsonl")


def _other_run(table: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[str, ...]:
    """A badge where the folder's table has another name, backbone or reward than the configuration, so is of another run."""
    configured = {"name": config.get("name"), "backbone": trained_model(config), "reward": config.get("reward", {}).get("name")}
    others = [str(table[key]) for key, value in configured.items() if None not in (value, table.get(key)) and table[key] != value]
    return (f"table and answers left out: they are of an earlier run in this folder ({', '.join(others)})",) if others else ()


def _progress(run_folder: Path, record: Mapping[str, Any], metrics: Rows) -> str:
    """How far a run is that has not finished; empty for a finished one."""
    status = record.get("status", "")
    if status == "finished" or "stages" not in record:
        return ""
    parts = [f"{len(completed_stages(record))} of {len(record['stages'])} stages complete"]
    if metrics:
        parts.append(f"last logged: step {metrics[-1]['step']} of {metrics[-1]['stage']}")
    if status == "running":
        parts.append(f"last updated {_last_update(run_folder, record)}")
    return "; ".join(parts)


def _last_update(run_folder: Path, record: Mapping[str, Any]) -> str:
    """The time of the newest change to the record or to a file that a stage appends to."""
    times = [datetime.fromisoformat(record["updated"])] if "updated" in record else []
    files = [run_folder / name for name in LIVE_FILES]
    times += [datetime.fromtimestamp(path.stat().st_mtime, UTC) for path in files if path.is_file()]
    return _in_utc(max(times).isoformat(), seconds=True) if times else "never"


def _in_utc(time: str, *, seconds: bool) -> str:
    """
    >>> _in_utc("2026-01-31T12:00:05+00:00", seconds=False)
    '2026-01-31 12:00 UTC'
    """
    return time[: 19 if seconds else 16].replace("T", " ") + " UTC"


def _facts(record: Mapping[str, Any], choices: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    commit = record.get("commit") or ""
    facts = {
        **choices,
        "seed": record.get("seed"),
        "commit": commit[:10] + (" with changes" if commit.endswith("+changes") else ""),
        "machine": record.get("machine"),
        "started": _in_utc(record["started"], seconds=False) if record.get("started") else None,
        "took": in_words(record["seconds"]) if "seconds" in record else None,
    }
    return tuple((name, str(value)) for name, value in facts.items() if value not in (None, ""))


def _unfinished(status: str, table: Mapping[str, Any]) -> tuple[str, ...]:
    """A badge where a run has a table, which it writes last, and did not finish."""
    if status in ("finished", "running") or not table:
        return ()
    return ("this run did not finish: table and answers may be incomplete, or of an earlier run in this folder",)


def _frame_sensitivity(facts: Mapping[str, Any]) -> str:
    if not facts:
        return ""
    effect = facts["nats_per_token"]
    if effect == 0:
        return "Frame sensitivity: another instance's frames change nothing. FRAMES HAVE NO EFFECT on this policy."
    return f"Frame sensitivity: another instance's frames change a reference's log-probabilities by {effect:.4f} nats per token."


def _resampling(table: Mapping[str, Any]) -> str:
    """What the brackets hold; empty for a table without intervals."""
    if "confidence" not in table:
        return ""
    return f"{100 * table['confidence']:g} % interval from {table['bootstrap_samples']} resamples of the instances"


def _stage_line(stage: Mapping[str, Any], record: Mapping[str, Any]) -> StageLine:
    seconds, state = stage.get("seconds"), stage_state(stage)
    if seconds is None and state == "failed" and stage.get("started") and record.get("finished"):
        seconds = (datetime.fromisoformat(record["finished"]) - datetime.fromisoformat(stage["started"])).total_seconds()
    took = in_words(seconds) if seconds is not None else ""
    if state == "running" and stage.get("started"):
        took = f"since {_in_utc(stage['started'], seconds=False)}"
    return StageLine(label=stage.get("label") or stage["stage"], state=state, took=took, key=stage.get("key") or "")


def _memory(record: Mapping[str, Any]) -> str:
    peaks = {"": record.get("peak_memory_bytes"), " on the GPU": record.get("peak_gpu_memory_bytes")}
    return ", ".join(f"{count / 1e9:.2f} GB{where}" for where, count in peaks.items() if count)


def _versions(record: Mapping[str, Any]) -> list[tuple[str, str | None]]:
    python = [("python", record["python"])] if "python" in record else []
    return python + list(record.get("versions", {}).items())


def in_words(seconds: float) -> str:
    """A duration in seconds, minutes or hours.

    >>> in_words(4000)
    '1 h 07 min'
    """
    if seconds < 90:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
