"""What a run was made of, and what a reader must know before believing its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fires_exp.report.models import trained_baseline, trained_model

SAMPLE_SCORER = "sample scorer"  # how the name begins of one that was trained on the sample's pairs

HONESTY = {
    ("teacher", "rules"): "thoughts by rules from labels, no model",
    ("backbone", "smollm2_vl"): "135M stand-in, de-quantized, vision tower trained from scratch",
    ("backbone", "tiny"): "random backbone: shows that things run, nothing else",
    ("dataset", "sample"): "invented sample corpus",
    ("reward", "wo_support_skill"): "reward without its support-skill part",
    ("reward", "judge"): "a model's judgment is rewarded too, which the paper does not",
}


def choices_made(table: Mapping[str, Any], config: Mapping[str, Any], stages: Sequence[str], *, thinks: bool) -> dict[str, str]:
    """What was chosen, by the table where there is one, else by the configuration; only what the run's stages use."""
    named = {group: config[group]["name"] for group in ("dataset", "reward", "teacher") if group in config}
    trained_on = named.get("dataset")
    asked = config.get("recipe", {}).get("policies", ())
    found = {
        "backbone": None if asked == ["baseline"] else table.get("backbone", trained_model(config)),
        "baseline": config.get("baseline", {}).get("model") if "baseline" in asked else trained_baseline(config),
        "dataset": table.get("dataset", (config.get("test_dataset") or {}).get("name", trained_on)),
        "trained on": trained_on if "sft" in stages or "grpo" in stages else None,
        "split": table.get("split", config.get("predict", {}).get("split")),
        "instances": table.get("instances"),
        "predictions": ", ".join(table["predictions"].values()) if "predictions" in table else None,
        "references": table.get("references"),
        "teacher": table.get("teacher", named.get("teacher")) if thinks else None,
        "reward": table.get("reward", named.get("reward")) if "grpo" in stages else None,
        "support skills read by": table.get("scorer"),
        "responses judged by": table.get("judge") if "grpo" in stages else None,
    }
    if found["trained on"] == found["dataset"]:
        found["trained on"] = None
    return {name: str(value) for name, value in found.items() if value is not None}


def badges_of(run: Mapping[str, Any], config: Mapping[str, Any], choices: Mapping[str, str]) -> tuple[str, ...]:
    badges = [text for (group, name), text in HONESTY.items() if choices.get(group) == name]
    if choices.get("trained on") == "sample":
        badges.append("trained on the invented sample corpus")
    if choices.get("support skills read by", "").startswith(SAMPLE_SCORER):
        badges.append("support skills by a scorer of invented pairs, not EPITOME")
    limit = config.get("dataset", {}).get("limit", {})
    drawn = [f"{count} {split}" for split, count in limit.items() if count is not None]
    if drawn:
        badges.append(f"a draw of at most {', '.join(drawn)} instances, not the whole corpus")
    if (run.get("commit") or "").endswith("+changes"):
        badges.append("code edited after the commit")
    return tuple(badges)
