"""The model card of an exported model: the README.md that the Hugging Face hub shows, from the files of its run."""

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
from fires_exp.export.licenses import EPITOME, TEACHERS, LicensedSource, backbone_source, dataset_source
from fires_exp.export.load_run import TrainedModel
from fires_exp.report.provenance import CAVEATS, policy_uses

HIDDEN_PATH = "<a path on the training machine>"
# groups that do not concern the model
_LEFT_OUT = ("paths", "logger")
# keys whose values are paths or addresses, whatever they look like
_PATH_KEYS = ("root", "video_root", "scorer", "data", "batch_requests", "batch_results", "base_url")
_LOCAL_PATH = re.compile(r"~|\.{0,2}/|[A-Za-z]:\\")


def write_card(folder: Path, trained: TrainedModel, system_prompt: str) -> Path:
    """Write `README.md` into `folder`; `system_prompt` is the one that the model was trained with."""
    policy, tree, record = trained.policy, trained.resolved, trained.record
    table = _metrics(trained.run_folder)
    rows = table.get("policies", {}).get(policy, [])
    backbone, dataset = backbone_source(tree["backbone"]), dataset_source(tree["dataset"]["name"])
    license = _license(tree, record, policy, backbone, dataset)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # noqa: S701  # Markdown, whose values are the project's own or escaped by `_plain`
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
        epitome=EPITOME if _scored_by_epitome(tree, record, policy) else "",
        teacher=_teacher(tree, record, policy),
        honesty=_honesty(tree),
        table=table,
        rows=rows,
        facts=record,
        system_prompt=system_prompt,
        config=yaml.safe_dump(shareable(tree), sort_keys=False, allow_unicode=True).rstrip(),
    )
    path = folder / "README.md"
    path.write_text(without_secrets(text), encoding="utf-8")
    return path


def shareable(tree: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a run's configuration that concerns the model, without paths of the machine that it was trained on."""
    return {name: _shareable(node, name) for name, node in tree.items() if name not in _LEFT_OUT}


def _shareable(node: Any, key: str) -> Any:
    if isinstance(node, Mapping):
        return {name: _shareable(value, name) for name, value in node.items()}
    if isinstance(node, list):
        return [_shareable(value, key) for value in node]
    local = isinstance(node, str) and (key in _PATH_KEYS or _LOCAL_PATH.match(node) is not None)
    return HIDDEN_PATH if local else node


def _metrics(run_folder: Path) -> dict[str, Any]:
    path = run_folder / "metrics.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _header(
    name: str, table: Mapping[str, Any], rows: list[dict[str, Any]], backbone: LicensedSource, license: str | None
) -> str:
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


def _license(
    tree: Mapping[str, Any], record: Mapping[str, Any], policy: str, backbone: LicensedSource, dataset: LicensedSource
) -> str | None:
    """The license that the weights can have; None where one of their sources restricts its use or states no license."""
    restricted = _scored_by_epitome(tree, record, policy) or tree.get("teacher", {}).get("name") == "openai"
    return backbone.license if backbone.license == dataset.license and not restricted else None


def _scored_by_epitome(tree: Mapping[str, Any], record: Mapping[str, Any], policy: str) -> bool:
    reward = tree.get("reward", {})
    named = (reward.get("support_skill") or {}).get("scorer") or tree.get("epitome", {}).get("data")
    return policy_uses(record, policy, "reward") and bool(named) and reward.get("support_skill_weight", 0) > 0


def _teacher(tree: Mapping[str, Any], record: Mapping[str, Any], policy: str) -> str:
    thinks = tree["aspects"]["plan"] != "none" and policy_uses(record, policy, "teacher")
    teacher = tree.get("teacher", {})
    return TEACHERS.get(str(teacher.get("name")), "").format(model=teacher.get("model")) if thinks else ""


def _honesty(tree: Mapping[str, Any]) -> list[str]:
    """The warnings about numbers of a stand-in backbone, dataset or reward, as on the report's page."""
    names = [(group, str((tree.get(group) or {}).get("name"))) for group in ("backbone", "dataset", "reward")]
    return [CAVEATS[group, name] for group, name in names if (group, name) in CAVEATS]


def _plain(text: str) -> str:
    """On one line, without characters that Markdown or HTML interprets."""
    return re.sub(r"[\s<>`|\[\]#*_]+", " ", text).strip()
