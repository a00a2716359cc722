"""How our runs differ from the paper's: backbone, data, teacher, scorers, size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fires_exp.paper.runs import Run
from fires_exp.report.provenance import SETTINGS_OF_STAGE, badges_of, choices_made, stage_names, trained_baseline

BACKBONE = "qwen2_5_vl_7b"
TEACHER = "gpt-4o-2024-11-20"
SIMILARITY = "roberta-large"
PAPER_DATA = {"mesc": "MESC", "emotyda_esc": "EMOTyDA-ESC"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A setting with our value and the paper's; `ours` joins several values where our runs differ."""

    setting: str
    ours: str
    papers: str


def differences(runs: Sequence[Run], scale: str) -> tuple[Difference, ...]:
    """The settings that differ, the most important first; empty without runs."""
    if not runs:
        return ()
    first_runs = tuple({(run.folder.parent, run.policy): run for run in reversed(runs)}.values())[::-1]  # first seed of each row
    settings = [
        ("backbone", joined(map(_backbone, first_runs)), BACKBONE, "Qwen2.5-VL-7B-Instruct"),
        ("data", joined(map(_data, first_runs)), None, " and ".join(sorted(_papers_data(first_runs)))),
        ("thoughts to learn from", joined(map(_teacher, first_runs)), TEACHER, f"{TEACHER}, with the frames"),
        ("support skills read by", joined(run.table.get("scorer") for run in first_runs), None, "EPITOME's RoBERTa"),
        ("rewarded by the judgment of", joined(map(_judge, first_runs)), None, "none"),
        ("similarity", joined(map(_similarity, first_runs)), SIMILARITY, f"BERTScore of {SIMILARITY}"),
        ("seeds", ", ".join(map(str, sorted({run.seed for run in runs}))), "42", "42"),
        ("scale", _scale(scale, first_runs), None, "three epochs of SFT and GRPO on all train instances"),
    ]
    return tuple(
        Difference(setting=setting, ours=ours, papers=papers) for setting, ours, same, papers in settings if ours and ours != same
    )


def differences_sentence(rows: Sequence[Difference]) -> str:
    """All differences in one sentence; empty without any.

    >>> differences_sentence([Difference(setting="backbone", ours="tiny", papers="Qwen2.5-VL-7B-Instruct")])
    'Differs from the paper: backbone: tiny (paper: Qwen2.5-VL-7B-Instruct).'
    """
    parts = "; ".join(f"{row.setting}: {row.ours} (paper: {row.papers})" for row in rows)
    return f"Differs from the paper: {parts}." if parts else ""


def warnings(runs: Sequence[Run]) -> tuple[str, ...]:
    """The badges of all runs (`provenance.badges_of`), each once."""
    first_runs = {run.folder.parent: run for run in reversed(runs)}.values()
    badges = (badge for run in reversed(list(first_runs)) for badge in badges_of(run.record, run.config, _choices(run)))
    return tuple(dict.fromkeys(badges))


def joined(values: Iterable[str | None]) -> str:
    return ", ".join(dict.fromkeys(value for value in values if value))


def _choices(run: Run) -> dict[str, str]:
    return choices_made(run.table, run.config, run.record)


def _backbone(run: Run) -> str | None:
    """None for baselines, whose models are their own in the paper too."""
    return None if trained_baseline(run.config) else _choices(run).get("backbone")


def _data(run: Run) -> str:
    choices = _choices(run)
    trained = f", trained on {choices['trained on']}" if "trained on" in choices else ""
    return f"{choices.get('dataset', '?')} ({choices.get('instances', '?')} instances of {choices.get('split', '?')}{trained})"


def _papers_data(runs: Sequence[Run]) -> set[str]:
    return {PAPER_DATA.get(run.table.get("dataset", ""), "MESC") for run in runs}


def _teacher(run: Run) -> str | None:
    if "teacher" not in _choices(run):
        return None
    teacher: Mapping[str, Any] = run.config.get("teacher", {})
    return teacher.get("model") or _choices(run)["teacher"]


def _judge(run: Run) -> str | None:
    return _choices(run).get("responses judged by")


def _similarity(run: Run) -> str | None:
    encoder: Mapping[str, Any] = run.config.get("metrics", {}).get("similarity", {}).get("encoder", {})
    return encoder.get("name")


def _scale(scale: str, runs: Sequence[Run]) -> str:
    """The folder's name, and the settings that make a run smaller."""
    parts = []
    for stage in dict.fromkeys(stage["stage"] for run in runs for stage in run.record.get("stages", ())):
        counts = {_max_steps(run, stage) for run in runs if stage in (stage_names(run.record) or ())}
        limited = sorted(count for count in counts if isinstance(count, int))
        if limited:
            parts.append(f"at most {' or '.join(map(str, limited))} {stage.upper()} steps")
    limits = {
        f"at most {count} {split} instances"
        for run in runs
        for split, count in run.config.get("dataset", {}).get("limit", {}).items()
        if count is not None
    }
    return ", ".join([scale, *parts, *sorted(limits)])


def _max_steps(run: Run, stage: str) -> int | None:
    """The limit on the steps of a stage that is trained; None for others and where there is no limit."""
    settings = run.config.get(SETTINGS_OF_STAGE.get(stage, stage))
    return settings.get("max_steps") if isinstance(settings, Mapping) else None
