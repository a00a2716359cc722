"""Composing as the command line does."""

import functools

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from fires_exp.config.load import register_schema


@pytest.fixture(scope="session")
def composed():
    """The composed tree for some overrides, read-only: tests share it, since composing takes a tenth of a second."""
    register_schema()

    @functools.cache
    def build(*overrides):
        with initialize_config_module("fires_exp.conf", version_base="1.3"):
            tree = compose("config", overrides=list(overrides))
        OmegaConf.set_readonly(tree, True)
        return tree

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
