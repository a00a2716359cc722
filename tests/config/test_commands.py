"""The configuration roots of the commands: they compose, name every key's meaning, and restate no default of training."""

import dataclasses

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from trained_run import composed_command

from fires_exp.config.commands import COMMAND_CONFIGS, ModelConfig, register_command_schemas
from fires_exp.config.load import register_schema
from fires_exp.errors import ConfigError

REQUIRED = {"score": ["predictions=p.jsonl"], "export": ["adapter=runs/demo"], "chat": [], "inspect": []}


@pytest.mark.parametrize("name", COMMAND_CONFIGS)
def test_a_command_composes_with_its_required_keys_and_names_a_missing_one(name):
    composed_command(name, *REQUIRED[name])
    for override in REQUIRED[name]:
        with pytest.raises(ConfigError, match=f"^{override.partition('=')[0]} "):
            composed_command(name)


@pytest.mark.parametrize("schema", [*COMMAND_CONFIGS.values(), ModelConfig], ids=lambda schema: schema.__name__)
def test_every_key_has_a_meaning_and_no_default(schema):
    for field in dataclasses.fields(schema):
        assert field.metadata["setting"].meaning
        assert field.default is dataclasses.MISSING
        assert field.default_factory is dataclasses.MISSING


@pytest.mark.parametrize("name", COMMAND_CONFIGS)
def test_groups_have_the_same_defaults_as_in_training(name):
    register_schema()
    register_command_schemas()
    with initialize_config_module("fires_exp.conf", version_base="1.3"):
        ours, training = (OmegaConf.to_container(compose(root), resolve=False) for root in (name, "config"))
    shared = ours.keys() & training.keys()
    assert {"seed", "paths"} & shared
    for key in shared:
        assert ours[key] == training[key], key


def test_a_list_of_predictions_is_read_and_any_other_value_refused():
    assert composed_command("score", "predictions=[a.jsonl,b.jsonl]").prediction_files == ["a.jsonl", "b.jsonl"]
    assert composed_command("score", "predictions=a.jsonl").prediction_files == ["a.jsonl"]
    for value in ("3", "[]", "[3]", "{a: 1}", "null"):
        with pytest.raises(ConfigError, match=r"^predictions="):
            composed_command("score", f"predictions={value}")
