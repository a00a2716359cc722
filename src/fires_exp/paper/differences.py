"""What our runs had that the paper's had not: the backbone, the data, the teacher, the scorers, the size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fires_exp.paper.runs import Run
from fires_exp.report.provenance import badges_of, choices_made, trained_baseline

BACKBONE = "qwen2_5_vl_7b"
TEACHER = "gpt-4o-2024-11-20"
SIMILARITY = "roberta-large"
PAPER_DATA = {"mesc": "MESC", "emotyda_esc": "EMOTyDA-ESC"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """`ours` joins what our runs had, where they differ among themselves."""

    what: str
    ours: str
    papers: str


def differences(runs: Sequence[Run], scale: str) -> tuple[Difference, ...]:
    """What differs, most weighty first; nothing where there are no runs."""
    if not runs:
        return ()
    one_a_row = tuple({(run.folder.parent, run.policy): run for run in reversed(runs)}.values())[::-1]
    found = [
        ("backbone", joined(map(_backbone, one_a_row)), BACKBONE, "Qwen2.5-VL-7B-Instruct"),
        ("data", joined(map(_data, one_a_row)), None, " and ".join(sorted(_papers_data(one_a_row)))),
        ("thoughts to learn from", joined(map(_teacher, one_a_row)), TEACHER, f"{TEACHER}, with the frames"),
        ("support skills read by", joined(run.table.get("scorer") for run in one_a_row), None, "EPITOME's RoBERTa"),
        ("rewarded by the judgment of", joined(map(_judge, one_a_row)), None, "nobody"),
        ("similarity", joined(map(_similarity, one_a_row)), SIMILARITY, f"BERTScore of {SIMILARITY}"),
        ("seeds", ", ".join(map(str, sorted({run.seed for run in runs}))), "42", "42"),
        ("scale", _scale(scale, one_a_row), None, "three epochs of SFT and GRPO on all train instances"),
    ]
    return tuple(Difference(what=what, ours=ours, papers=papers) for what, ours, same, papers in found if ours and ours != same)


def in_a_sentence(found: Sequence[Difference]) -> str:
    """All of them in one line; empty where there are none.

    >>> in_a_sentence([Difference(what="backbone", ours="tiny", papers="Qwen2.5-VL-7B-Instruct")])
    'Differs from the paper: backbone: tiny (paper: Qwen2.5-VL-7B-Instruct).'
    """
    parts = "; ".join(f"{one.what}: {one.ours} (paper: {one.papers})" for one in found)
    return f"Differs from the paper: {parts}." if parts else ""


def warnings(runs: Sequence[Run]) -> tuple[str, ...]:
    """What a reader must know before believing a number of any of the runs, each once."""
    one_a_row = {run.folder.parent: run for run in reversed(runs)}.values()
    found = {badge: None for run in reversed(list(one_a_row)) for badge in badges_of(run.record, run.config, _choices(run))}
    return tuple(found)


def joined(values: Iterable[str | None]) -> str:
    return ", ".join(dict.fromkeys(value for value in values if value))


def _choices(run: Run) -> dict[str, str]:
    stages = run.config.get("recipe", {}).get("stages", ())
    thinks = run.config.get("aspects", {}).get("plan") != "none" and bool({"synthesize", "sft"} & set(stages))
    return choices_made(run.table, run.config, stages, thinks=thinks)


def _backbone(run: Run) -> str | None:
    """None for baselines, which have models of their own in the paper too."""
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
    for stage in ("sft", "grpo"):
        counts = {(run.config.get(stage) or {}).get("max_steps") for run in runs if _trains(run, stage)}
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


def _trains(run: Run, stage: str) -> bool:
    return stage in run.config.get("recipe", {}).get("stages", ())
