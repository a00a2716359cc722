"""The model of a run, to export it or to chat with it: `adapter=RUN_FOLDER`, or `RUN_FOLDER:POLICY`."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from fires_exp.config.commands import ModelConfig
from fires_exp.config.load import load_as
from fires_exp.config.model import BackboneConfig
from fires_exp.errors import ConfigError, StageError
from fires_exp.storage.artifacts import is_finished, read_artifact
from fires_exp.training.fit import ADAPTER

log = logging.getLogger("fires_exp.pipeline")

# the settings of a run that hold wherever its model is used
MODEL_KEYS = ("aspects", "frames", "prompt", "predict")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedModel:
    """A policy of a run.

    `resolved` is the run's resolved.yaml and `record` its run.json, both as plain containers: an older run may lack keys.
    `adapters` are merged into the backbone in this order.
    """

    run_folder: Path
    policy: str
    resolved: Mapping[str, Any]
    record: Mapping[str, Any]
    adapters: tuple[Path, ...]


def read_trained(adapter: str, artifacts: Path) -> TrainedModel:
    """The model that `adapter=` names; without a policy, the one that was trained last. An artifact that is not where the run
    left it is searched for in `artifacts`. Raises `ConfigError` or `StageError` in one line where there is no such model."""
    run_folder, policy = _split(adapter)
    resolved = _read_mapping(run_folder / "resolved.yaml", yaml.safe_load)
    record = _read_mapping(run_folder / "run.json", json.loads)
    if (resolved.get("trained_baseline") or {}).get("name", "none") != "none":
        raise ConfigError(f"adapter={adapter}: a trained baseline answers in another form; name a run of FIRES or an ablation")
    policies: Mapping[str, Sequence[Mapping[str, Any]]] = record.get("policies") or {}
    if not policies:
        raise ConfigError(
            f"adapter={adapter}: {run_folder / 'run.json'} lists no policies; name another run, or run it again: "
            f"fires-exp resume {run_folder}"
        )
    policy = policy or list(policies)[-1]
    if policy not in policies:
        raise ConfigError(
            f"adapter={adapter}: the run has {', '.join(policies)}; write adapter={run_folder}:{list(policies)[-1]}"
        )
    adapters = tuple(_adapter_folder(artifact, artifacts) for artifact in policies[policy])
    return TrainedModel(run_folder=run_folder, policy=policy, resolved=resolved, record=record, adapters=adapters)


def model_config(trained: TrainedModel, backbone: BackboneConfig) -> ModelConfig:
    """The settings that the run's model was trained with. `backbone` takes the place of the run's where both have one name: its
    path and precision may differ on this machine."""
    path = trained.run_folder / "resolved.yaml"
    missing = [key for key in (*MODEL_KEYS, "backbone") if key not in trained.resolved]
    if missing:
        raise ConfigError(f"{path}: no {missing[0]}; name the folder of a run")
    settings = {key: trained.resolved[key] for key in MODEL_KEYS}
    if trained.resolved["backbone"].get("name") == backbone.name:
        settings["backbone"] = asdict(backbone)
    else:
        settings["backbone"] = trained.resolved["backbone"]
        log.info("backbone: %s, as in the run", settings["backbone"].get("name"))
    try:
        return load_as(ModelConfig, settings)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def _split(adapter: str) -> tuple[Path, str]:
    """Run folder and policy; the policy is empty where none is named."""
    path = Path(adapter).expanduser()
    folder, _, policy = adapter.rpartition(":")
    run_folder, policy = (path, "") if path.is_dir() or not folder else (Path(folder).expanduser(), policy)
    if not (run_folder / "run.json").is_file():
        raise ConfigError(
            f"adapter={adapter}: {run_folder / 'run.json'} does not exist; name the folder of a run, or RUN_FOLDER:POLICY"
        )
    return run_folder, policy


def _read_mapping(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        content = None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} cannot be read; name another run, or run it again")
    return content


def _adapter_folder(artifact: Mapping[str, Any], artifacts: Path) -> Path:
    candidates = (Path(artifact["folder"]), artifacts / artifact["stage"] / artifact["key"])
    for folder in candidates:
        if is_finished(folder):
            return read_artifact(folder).folder / ADAPTER
    raise StageError(
        f"{candidates[0]} and {candidates[1]} do not exist; write paths.artifacts=<folder of the artifacts>, or run it again"
    )
