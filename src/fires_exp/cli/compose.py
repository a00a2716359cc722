"""From overrides on the command line to a configuration, by Hydra's compose API; every mistake is a `ConfigError` in one line."""

from __future__ import annotations

from collections.abc import Sequence

from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from fires_exp.config.commands import register_command_schemas
from fires_exp.config.field import Group
from fires_exp.config.load import EVERY_KEY, Schema, load_as, register_schema
from fires_exp.config.renamed import refuse_old_overrides
from fires_exp.config.root import Config
from fires_exp.config.secrets import refuse_secrets
from fires_exp.config.suggest import explain
from fires_exp.errors import ConfigError

CONF = "fires_exp.conf"
TRAINING_ROOT = "config"


def compose_command(name: str, root: type[Schema], overrides: Sequence[str]) -> Schema:
    """The configuration of a command, from `conf/<name>.yaml`."""
    refuse_secret_overrides(overrides)
    refuse_old_overrides(overrides)
    return load_as(root, compose_tree(name, root, overrides))


def compose_training(overrides: Sequence[str]) -> Config:
    """The configuration of a run."""
    return load_as(Config, compose_tree(TRAINING_ROOT, Config, overrides))


def compose_tree(name: str, root: type[Group], overrides: Sequence[str]) -> DictConfig:
    """The composed tree of `conf/<name>.yaml`, its values not yet checked."""
    register_schema()
    register_command_schemas()
    try:
        with initialize_config_module(CONF, version_base="1.3"):
            return compose(name, overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        key_list = EVERY_KEY if name == TRAINING_ROOT else f"fires-exp {name} --help lists every key"
        raise ConfigError(explain(error, overrides, root, key_list)) from None


def refuse_secret_overrides(overrides: Sequence[str]) -> None:
    """Raises `ConfigError` for the first override whose value is a key or a password."""
    refuse_secrets((override.partition("=")[0], override) for override in overrides)
