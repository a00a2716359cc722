"""Which model, data and scorers a run used, and what a reader must know before believing its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SAMPLE_SCORER = "sample scorer"  # beginning of the name of a scorer that was trained on the sample's pairs
BASELINE = "baseline"  # the policy of an untrained baseline

# the artifact stages that read a choice; a choice that is not listed belongs to every run
STAGES_OF_CHOICE = {
    "trained on": ("sft", "grpo", "train_baseline"),
    "teacher": ("thoughts",),
    "reward": ("grpo",),
    "responses judged by": ("grpo",),
}
SETTINGS_OF_STAGE = {"train_baseline": "sft"}  # the group of keys of a stage, where its name is another
CAVEATS = {
    ("teacher", "rules"): "thoughts by rules from labels, no model",
    ("backbone", "smollm2_vl"): "135M stand-in, de-quantized, vision tower trained from scratch",
    ("backbone", "tiny"): "random backbone: only shows that the pipeline runs end to end",
    ("dataset", "sample"): "invented sample corpus",
    ("reward", "wo_support_skill"): "reward without its support-skill part",
    ("reward", "judge"): "a model's judgment is rewarded too, unlike in the paper",
}


def trained_baseline(config: Mapping[str, Any]) -> str | None:
    """The name of the baseline that was trained instead of our own policy; None where there is none."""
    name = config.get("trained_baseline", {}).get("name", "none")
    return None if name == "none" else name


def trained_model(config: Mapping[str, Any]) -> str | None:
    """The name of the model that was trained and gave the answers."""
    on_seq2seq = trained_baseline(config) is not None and config["trained_baseline"]["model"] == "seq2seq"
    name: str | None = config.get("seq2seq" if on_seq2seq else "backbone", {}).get("name")
    return name


def stage_names(record: Mapping[str, Any]) -> frozenset[str] | None:
    """The artifact stages of a run, planned or done, by its run.json; None where the record lists none at all."""
    return frozenset(stage["stage"] for stage in record["stages"]) if "stages" in record else None


def choices_made(table: Mapping[str, Any], config: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, str]:
    """The run's data, models and scorers by name: from its table (metrics.json) where there is one, else from its configuration.
    What no stage of the run uses is left out (`STAGES_OF_CHOICE`)."""
    stages = stage_names(record)
    if stages is not None and not stages:
        config = {}  # nothing was computed from it: only files were scored
    names = {group: config[group]["name"] for group in ("dataset", "reward", "teacher") if group in config}
    policies = config.get("recipe", {}).get("policies", ())
    choices = {
        "backbone": None if policies == [BASELINE] else table.get("backbone", trained_model(config)),
        "baseline": config.get("baseline", {}).get("model") if BASELINE in policies else trained_baseline(config),
        "dataset": table.get("dataset", (config.get("test_dataset") or {}).get("name", names.get("dataset"))),
        "trained on": names.get("dataset"),
        "split": table.get("split", config.get("predict", {}).get("split")),
        "instances": table.get("instances"),
        "predictions": ", ".join(table.get("predictions", {}).values()) or None,
        "references": table.get("references"),
        "teacher": table.get("teacher", names.get("teacher")),
        "reward": table.get("reward", names.get("reward")),
        "support skills read by": table.get("scorer"),
        "responses judged by": table.get("judge"),
    }
    if choices["trained on"] == choices["dataset"]:
        choices["trained on"] = None
    return {name: str(value) for name, value in choices.items() if value is not None and _is_used(name, stages)}


def _is_used(choice: str, stages: frozenset[str] | None) -> bool:
    users = STAGES_OF_CHOICE.get(choice)
    return users is None or stages is None or not stages.isdisjoint(users)


def policy_uses(record: Mapping[str, Any], policy: str, choice: str) -> bool:
    """Whether a stage behind a trained policy reads a choice of `STAGES_OF_CHOICE`: one whose adapter it has, or one that trained
    no adapter, such as the synthesis of thoughts. False for an untrained policy."""
    adapters = {name: {row["stage"] for row in rows} for name, rows in record.get("policies", {}).items()}
    own = adapters.get(policy, set())
    others = set().union(*adapters.values()) - own
    return bool(own) and _is_used(choice, (stage_names(record) or frozenset()) - others)


def badges_of(record: Mapping[str, Any], config: Mapping[str, Any], choices: Mapping[str, str]) -> tuple[str, ...]:
    """Caveats, one short sentence each."""
    badges = [text for (group, name), text in CAVEATS.items() if choices.get(group) == name]
    if choices.get("trained on") == "sample":
        badges.append("trained on the invented sample corpus")
    if choices.get("support skills read by", "").startswith(SAMPLE_SCORER):
        badges.append("support skills by a scorer of invented pairs, not EPITOME")
    if stage_names(record) != frozenset():
        limits = config.get("dataset", {}).get("limit", {})
        counts = [f"{count} {split}" for split, count in limits.items() if count is not None]
        if counts:
            badges.append(f"a draw of at most {', '.join(counts)} instances, not the whole corpus")
    if (record.get("commit") or "").endswith("+changes"):
        badges.append("code edited after the commit")
    return tuple(badges)
