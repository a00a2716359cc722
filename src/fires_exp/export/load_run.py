"""A run's model, to talk to or to export: `adapter=RUN_FOLDER`, or `RUN_FOLDER:POLICY`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from fires_exp.config.load import load_config
from fires_exp.config.root import Config
from fires_exp.errors import ConfigError, StageError
from fires_exp.storage.artifacts import DONE, reuse
from fires_exp.training.fit import ADAPTER

log = logging.getLogger("fires_exp.pipeline")

# whose adapters are folded in, in this order
TRAINED_STAGES: Mapping[str, tuple[str, ...]] = {"zero_shot": (), "sft": ("sft",), "grpo": ("sft", "grpo")}
# what a model was trained with it is used with
MODEL_KEYS = ("aspects", "frames", "prompt", "predict")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedModel:
    """A policy of a run. `tree` is the run's resolved configuration, `facts` its `run.json`, as they stand there: an older run
    may lack keys. `adapters` are folded into the backbone in their order."""

    run_folder: Path
    policy: str
    tree: Mapping[str, Any]
    facts: Mapping[str, Any]
    adapters: tuple[Path, ...]


def read_trained(argument: str, artifacts: Path) -> TrainedModel:
    """The model that `adapter=` names; without a policy the most trained one. An artifact that is not where the run left it is
    looked for in `artifacts`. Raises `ConfigError` and `StageError` in one line where there is none."""
    run_folder, policy = _named(argument)
    tree, facts = _read(run_folder / "resolved.yaml", yaml.safe_load), _read(run_folder / "run.json", json.loads)
    if (tree.get("trained_baseline") or {}).get("name", "none") != "none":
        raise ConfigError(
            f"adapter={argument}: a trained baseline answers in a form of its own; name a run of FIRES or an ablation"
        )
    made = {stage["stage"]: stage for stage in facts.get("stages", [])}
    there = [name for name, stages in TRAINED_STAGES.items() if name == "zero_shot" or stages[-1] in made]
    policy = policy or there[-1]
    if policy not in there:
        raise ConfigError(f"adapter={argument}: the run has {', '.join(there)}; write adapter={run_folder}:{there[-1]}")
    adapters = tuple(_adapter(made[stage], artifacts) for stage in TRAINED_STAGES[policy] if stage in made)
    return TrainedModel(run_folder=run_folder, policy=policy, tree=tree, facts=facts, adapters=adapters)


def with_model_of(config: Config, trained: TrainedModel) -> Config:
    """The configuration with what the run's model was trained with. Its backbone too, unless the configuration names the same
    one: then its own path and precision hold."""
    tree = asdict(config)
    missing = [key for key in (*MODEL_KEYS, "backbone") if key not in trained.tree]
    if missing:
        raise ConfigError(f"{trained.run_folder / 'resolved.yaml'}: no {missing[0]}; name the folder of a run")
    tree |= {key: trained.tree[key] for key in MODEL_KEYS}
    if trained.tree["backbone"].get("name") != config.backbone.name:
        tree["backbone"] = trained.tree["backbone"]
        log.info("backbone: %s, as in the run", tree["backbone"].get("name"))
    return load_config(tree)


def _named(argument: str) -> tuple[Path, str]:
    whole = Path(argument).expanduser()
    folder, _, policy = argument.rpartition(":")
    run_folder, policy = (whole, "") if whole.is_dir() or not folder else (Path(folder).expanduser(), policy)
    if not (run_folder / "run.json").is_file():
        raise ConfigError(
            f"adapter={argument}: {run_folder / 'run.json'} is not there; name the folder of a run, or RUN_FOLDER:POLICY"
        )
    return run_folder, policy


def _read(path: Path, parse: Any) -> dict[str, Any]:
    try:
        found = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        found = None
    if not isinstance(found, dict):
        raise ConfigError(f"{path} cannot be read; name another run, or run it again")
    return found


def _adapter(made: Mapping[str, Any], artifacts: Path) -> Path:
    places: Sequence[Path] = (Path(made["folder"]), artifacts / made["stage"] / made["key"])
    for place in places:
        if (place / DONE).is_file():
            return reuse(place).folder / ADAPTER
    raise StageError(
        f"{places[0]} is gone, and nothing is in {places[1]}; write paths.artifacts=<where it lies>, or run the run again"
    )
