"""Composing as the command line does."""

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from fires_exp.config.load import register_schema


@pytest.fixture
def composed():
    """The composed tree for some overrides."""
    register_schema()

    def build(*overrides):
        with initialize_config_module("fires_exp.conf", version_base="1.3"):
            return compose("config", overrides=list(overrides))

    return build


@pytest.fixture
def leaves(composed):
    """The tree as {dotted key: value}; a list is a leaf."""

    def flatten(node, prefix=""):
        found = {}
        for key, value in node.items():
            if isinstance(value, dict):
                found |= flatten(value, f"{prefix}{key}.")
            else:
                found[f"{prefix}{key}"] = value
        return found

    return lambda *overrides: flatten(OmegaConf.to_container(composed(*overrides), resolve=True))
