"""`--help` of a command that is configured by a root of its own in `conf/`."""

from __future__ import annotations

from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from fires_exp.cli.compose import CONF
from fires_exp.cli.help import command_help
from fires_exp.config.commands import COMMAND_CONFIGS, register_command_schemas


def print_command_help(name: str) -> None:
    """Print the keys, defaults and groups of the command."""
    register_command_schemas()
    with initialize_config_module(CONF, version_base="1.3"):
        defaults = OmegaConf.to_container(compose(name), resolve=False, enum_to_str=True)
    assert isinstance(defaults, dict)
    print(command_help(name, COMMAND_CONFIGS[name], {str(key): value for key, value in defaults.items()}))
