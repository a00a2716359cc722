"""From a composed tree to a checked `Config`, and back to YAML."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fires_exp.config.constraints import check
from fires_exp.config.field import Group
from fires_exp.config.renamed import refuse_old_names
from fires_exp.config.root import Config
from fires_exp.config.secrets import refuse_secrets
from fires_exp.config.suggest import explain_tree
from fires_exp.errors import ConfigError

SCHEMA_NAME = "config_schema"
EVERY_KEY = "docs/config.md lists every key and option"

Schema = TypeVar("Schema", bound=Group)


def register_schema() -> None:
    """Register the schema with Hydra under the name that `conf/config.yaml` starts with."""
    ConfigStore.instance().store(name=SCHEMA_NAME, node=Config)


def load_config(tree: DictConfig | dict[str, Any]) -> Config:
    """`load_as` for the configuration of a run."""
    return load_as(Config, tree)


def load_as(schema: type[Schema], tree: DictConfig | dict[str, Any]) -> Schema:
    """The tree as an object of this schema. Raises `ConfigError` in one line for old names, unknown keys, wrong types, missing
    and impossible values, and for keys and passwords, which belong into the environment.

    Hydra lets `+reward.skil=0` add a key that nothing reads; merging the plain tree into the schema refuses it.
    """
    plain: Any = {}
    try:
        plain = OmegaConf.to_container(tree, resolve=True) if isinstance(tree, DictConfig) else tree
        refuse_secrets((key, value) for key, value in _leaves(plain) if isinstance(value, str))
        refuse_old_names(plain)
        merged = OmegaConf.merge(OmegaConf.structured(schema), plain)
        missing = sorted(OmegaConf.missing_keys(merged))
        if missing:
            raise ConfigError(f"{missing[0]} has no value; write {missing[0]}=…")
        config = cast(Schema, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise ConfigError(explain_tree(error, _value_at(plain, error.full_key or ""), schema, EVERY_KEY)) from None
    check(config, "")
    return config


def write_yaml(config: Config, path: Path) -> None:
    """The whole resolved tree; `load_yaml` gives the same `Config` back. Several processes may write the same file at once."""
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    temporary.write_text(OmegaConf.to_yaml(OmegaConf.structured(config)), encoding="utf-8")
    temporary.replace(path)


def load_yaml(path: Path) -> Config:
    """A tree that `write_yaml` wrote. Raises `ConfigError` that names the file: it may be damaged, or of an earlier version."""
    again = "compose it anew with python -m fires_exp … hydra.run.dir=" + str(path.parent)
    try:
        tree = OmegaConf.load(path)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, OmegaConfBaseException) as error:
        problem = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ConfigError(f"{path} cannot be read ({problem}); {again}") from None
    if not isinstance(tree, DictConfig):
        raise ConfigError(f"{path} holds no configuration; {again}")
    try:
        return load_config(tree)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}. If it is of an earlier version, {again}") from None


def _value_at(tree: Any, key: str) -> Any:
    """The value at a dotted key such as `aspects.aspects[0]`; None where there is none."""
    for part in re.findall(r"[^.\[\]]+", key):
        if isinstance(tree, list) and part.isdecimal() and int(part) < len(tree):
            tree = tree[int(part)]
        else:
            tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _leaves(tree: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Each value with its dotted key; of a list, each member with the key of the list."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from _leaves(value, f"{key}.{name}" if key else str(name))
    elif isinstance(tree, list):
        for value in tree:
            yield from _leaves(value, key)
    else:
        yield key, tree
