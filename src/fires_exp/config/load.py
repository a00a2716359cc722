"""From a composed tree to a checked `Config`, and back to YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fires_exp.config.schema import Config
from fires_exp.errors import ConfigError

SCHEMA_NAME = "config_schema"


def register_schema() -> None:
    """Make the schema known to Hydra under the name that `conf/config.yaml` starts with."""
    ConfigStore.instance().store(name=SCHEMA_NAME, node=Config)


def load_config(tree: DictConfig | dict[str, Any]) -> Config:
    """The tree as a `Config`. Raises `ConfigError` in one line for unknown keys, wrong types, missing and impossible values.

    Hydra lets `+reward.skil=0` add a key that nothing reads; merging the plain tree into the schema once more refuses it.
    """
    try:
        plain = OmegaConf.to_container(tree, resolve=True) if isinstance(tree, DictConfig) else tree
        assert isinstance(plain, dict)
        merged = OmegaConf.merge(OmegaConf.structured(Config), plain)
        missing = sorted(OmegaConf.missing_keys(merged))
        if missing:
            raise ConfigError(f"{missing[0]} has no value; write {missing[0]}=…")
        return cast(Config, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        problem = str(error).strip().splitlines()[0]
        raise ConfigError(f"{error.full_key or 'configuration'}: {problem}; docs/config.md lists every key") from None


def write_yaml(config: Config, path: Path) -> None:
    """The whole resolved tree; `load_yaml` gives the same `Config` back."""
    path.write_text(OmegaConf.to_yaml(OmegaConf.structured(config)), encoding="utf-8")


def load_yaml(path: Path) -> Config:
    """A tree that `write_yaml` wrote."""
    tree = OmegaConf.load(path)
    assert isinstance(tree, DictConfig)
    return load_config(tree)
