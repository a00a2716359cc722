"""From overrides on the command line to a configuration, by Hydra's compose API; every mistake is a `ConfigError` in one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fires_exp.cli.hydra_errors import explain, unknown_key, unknown_keys
from fires_exp.config.commands import register_command_schemas
from fires_exp.config.load import load_as, register_schema
from fires_exp.config.schema import Config
from fires_exp.config.secrets import refuse_secrets
from fires_exp.errors import ConfigError

CONF = "fires_exp.conf"
TRAINING_ROOT = "config"
EVERY_KEY = "docs/config.md lists every key"
Schema = TypeVar("Schema")


def compose_command(name: str, schema: type[Schema], overrides: Sequence[str]) -> Schema:
    """The configuration of a command, from `conf/<name>.yaml`."""
    refuse_secret_overrides(overrides)
    return load_as(schema, compose_tree(name, schema, overrides, f"fires-exp {name} --help lists the keys"))


def compose_training(overrides: Sequence[str]) -> Config:
    """The configuration of a run."""
    return load_as(Config, compose_tree(TRAINING_ROOT, Config, overrides, EVERY_KEY))


def compose_tree(root: str, schema: type, overrides: Sequence[str], key_list: str) -> DictConfig:
    """The composed tree of `conf/<root>.yaml`, its values not yet checked. `key_list` says where the keys are listed."""
    register_schema()
    register_command_schemas()
    try:
        with initialize_config_module(CONF, version_base="1.3"):
            tree = compose(root, overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, overrides, schema, key_list)) from None
    unknown = unknown_keys(OmegaConf.to_container(tree, resolve=False), schema)
    if unknown:
        raise ConfigError(unknown_key(unknown[0], schema, key_list))
    return tree


def refuse_secret_overrides(overrides: Sequence[str]) -> None:
    """Raises `ConfigError` for the first override whose value is a key or a password."""
    refuse_secrets((override.partition("=")[0], override) for override in overrides)
