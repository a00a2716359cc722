"""The model card of an exported model: the README.md that the Hugging Face hub shows, from what its run left."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fires_exp.config.secrets import without_secrets
from fires_exp.export.disclaimer import NOTICE
from fires_exp.export.licenses import EPITOME, TEACHERS, Source, backbone_source, dataset_source
from fires_exp.report.provenance import CAVEATS

ONLY_HERE = "<a path on the training machine>"
# what does not concern the model
_LEFT_OUT = ("paths", "logger", "predictions", "references", "adapter", "export_folder", "chat")
# leaves that name places on the machine that trained, whatever they look like
_PLACES = ("root", "video_root", "scorer", "data", "batch_requests", "batch_results", "base_url")
_LOCAL_PATH = re.compile(r"~|\.{0,2}/|[A-Za-z]:\\")


def write_card(
    folder: Path, run_folder: Path, policy: str, tree: Mapping[str, Any], facts: Mapping[str, Any], system_prompt: str
) -> Path:
    """Write `README.md` into `folder`, for a policy of the run whose resolved tree and `run.json` are given."""
    table = _metrics(run_folder)
    rows = table.get("policies", {}).get(policy, [])
    backbone, dataset = backbone_source(tree["backbone"]), dataset_source(tree["dataset"]["name"])
    license = _license(tree, policy, backbone, dataset)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # noqa: S701  # it is Markdown; what goes in is the project's own, or escaped by `_plain`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    text = environment.get_template("model_card.md").render(
        header=_header(str(tree["name"]), table, rows, backbone, license),
        name=_plain(str(tree["name"])),
        policy=policy,
        notice=NOTICE,
        backbone=backbone,
        dataset=dataset,
        license=license,
        epitome=EPITOME if _scored_by_epitome(tree, policy) else "",
        teacher=_teacher(tree, policy),
        honesty=_honesty(tree),
        table=table,
        rows=rows,
        facts=facts,
        system_prompt=system_prompt,
        config=yaml.safe_dump(shareable(tree), sort_keys=False, allow_unicode=True).rstrip(),
    )
    path = folder / "README.md"
    path.write_text(without_secrets(text), encoding="utf-8")
    return path


def shareable(tree: Mapping[str, Any]) -> dict[str, Any]:
    """What of a run's configuration concerns the model, without paths of the machine that it was trained on."""
    return {name: _shareable(node, name) for name, node in tree.items() if name not in _LEFT_OUT}


def _shareable(node: Any, key: str) -> Any:
    if isinstance(node, Mapping):
        return {name: _shareable(value, name) for name, value in node.items()}
    if isinstance(node, list):
        return [_shareable(value, key) for value in node]
    local = isinstance(node, str) and (key in _PLACES or _LOCAL_PATH.match(node) is not None)
    return ONLY_HERE if local else node


def _metrics(run_folder: Path) -> dict[str, Any]:
    path = run_folder / "metrics.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _header(name: str, table: Mapping[str, Any], rows: list[dict[str, Any]], backbone: Source, license: str | None) -> str:
    results = [
        EvalResult(
            task_type="text-generation",
            dataset_type=table["dataset"],
            dataset_name=dataset_source(table["dataset"]).name,
            dataset_split=table["split"],
            metric_type=re.sub(r"\W+", "_", row["name"].lower()).strip("_"),
            metric_name=row["name"],
            metric_value=round(row["value"], 4),
        )
        for row in rows
    ]
    data = ModelCardData(
        language="en",
        license=license or "other",
        license_name=None if license else "research-only",
        license_link=None if license else "README.md",
        base_model=backbone.hub_id,
        base_model_relation="finetune" if backbone.hub_id else None,
        library_name="transformers",
        pipeline_tag="image-text-to-text",
        tags=["emotional-support", "chain-of-thought", "grpo", "lora", "fires-exp"],
        model_name=name if results else None,
        eval_results=results or None,
    )
    return str(data.to_yaml())


def _license(tree: Mapping[str, Any], policy: str, backbone: Source, dataset: Source) -> str | None:
    """The license that the weights can have; None where something that they were made from restricts its use or says nothing."""
    restricted = _scored_by_epitome(tree, policy) or tree.get("teacher", {}).get("name") == "openai"
    return backbone.license if backbone.license == dataset.license and not restricted else None


def _scored_by_epitome(tree: Mapping[str, Any], policy: str) -> bool:
    reward = tree.get("reward", {})
    named = (reward.get("support_skill") or {}).get("scorer") or tree.get("epitome", {}).get("data")
    return policy == "grpo" and bool(named) and reward.get("support_skill_weight", 0) > 0


def _teacher(tree: Mapping[str, Any], policy: str) -> str:
    thinks = tree["aspects"]["plan"] != "none" and policy != "zero_shot" and "sft" in tree["recipe"]["stages"]
    teacher = tree.get("teacher", {})
    return TEACHERS.get(str(teacher.get("name")), "").format(model=teacher.get("model")) if thinks else ""


def _honesty(tree: Mapping[str, Any]) -> list[str]:
    """What a reader must know before believing a number, as the report's page has it."""
    named = [(group, str((tree.get(group) or {}).get("name"))) for group in ("backbone", "dataset", "reward")]
    return [CAVEATS[group, name] for group, name in named if (group, name) in CAVEATS]


def _plain(text: str) -> str:
    """On one line, without what Markdown or HTML reads as its own."""
    return re.sub(r"[\s<>`|\[\]#*_]+", " ", text).strip()
