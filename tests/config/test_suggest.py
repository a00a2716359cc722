"""Each mistake on the command line is one line: what was written, the nearest name, where the list is."""

import pytest
from hydra import compose, initialize_config_module

from fires_exp.config.load import EVERY_KEY, load_config, register_schema
from fires_exp.config.root import Config
from fires_exp.config.suggest import explain
from fires_exp.errors import ConfigError


def line_for(*overrides):
    register_schema()
    try:
        with initialize_config_module("fires_exp.conf", version_base="1.3"):
            load_config(compose("config", overrides=list(overrides)))
    except ConfigError as error:
        return str(error)
    except Exception as error:
        return explain(error, overrides, Config, EVERY_KEY)
    raise AssertionError(f"{overrides} composes")


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("+experiment=wo_situatoin", "did you mean +experiment=wo_situation?"),
        ("aspects=wo_sitation", "did you mean aspects=wo_situation?"),
        ("scale=papr", "did you mean scale=paper?"),
        ("epitome/encoder=mini", "did you mean epitome/encoder=minilm?"),
        ("epitome/encodr=minilm", "did you mean epitome/encoder=minilm?"),
        ("aspect=wo_situation", "did you mean aspects=wo_situation?"),
        ("reward.skill=0", "did you mean reward.support_skill?"),
        ("grpo.scorng=native", "did you mean grpo.scoring=native?"),
        ("rewrd.format_weight=0", "did you mean reward?"),
        ("sed=3", "did you mean seed=3?"),
        ("+sed=3", "did you mean seed=3?"),
        ("+experment=fires", "did you mean +experiment"),
        ("learning_rate=3", "did you mean sft.optimizer.learning_rate=3?"),
        ("grpo.beta.max=3", "grpo.beta"),
        ("experiment=fires", "write +experiment=fires"),
        ("grpo.advantage_std=populaton", "did you mean population?"),
        ("aspects.aspects=[emotoin,situation]", "did you mean emotion?"),
    ],
)
def test_a_misspelled_name_gets_the_nearest(override, meant):
    line = line_for(override)
    assert meant in line
    assert "\n" not in line


@pytest.mark.parametrize("override", ["+experiment=qqqq", "qqqq=1", "+qqqq=1", "reward.qqqq=1"])
def test_a_name_like_no_other_gets_the_place_of_the_list(override):
    line = line_for(override)
    assert "did you mean" not in line
    assert line.endswith(EVERY_KEY)


def test_a_short_list_of_options_is_shown():
    assert line_for("trainer=qqqq").endswith("choose from cpu, ddp, gpu, zero2")


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("seed=many", "seed=many: write a whole number"),
        ("sft.max_steps=1.5", "sft.max_steps=1.5: write a whole number, or null"),
        ("grpo.beta=small", "grpo.beta=small: write a number"),
        ("trainer.progress=perhaps", "trainer.progress=perhaps: write true or false"),
        ("sft.optimizer=adam", "sft.optimizer=adam: write single keys, such as sft.optimizer.learning_rate="),
        ("recipe.stages=3", "recipe.stages=3: write a list"),
        ("foo", "foo: write key=value"),
        ("grpo.beta=[1", "grpo.beta=[1: "),
        ("aspects=free,fixed", "aspects=free,fixed: several values are a sweep; add -m"),
        ("+aspects=free", "aspects has several options"),
        ("hydra.run.dri=x", "hydra.run.dri=x: "),
    ],
)
def test_what_cannot_be_read_gets_what_to_write(override, wanted):
    line = line_for(override)
    assert line.startswith(wanted)
    assert "hydra.cc" not in line
    assert "\n" not in line
