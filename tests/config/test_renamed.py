"""Old names are refused with what to write instead, on the command line and in a tree of an earlier version."""

import pytest

from fires_exp.config.load import load_config
from fires_exp.config.options import groups, keys
from fires_exp.config.renamed import KEYS, SIZES, VALUES, refuse_old_names, refuse_old_overrides
from fires_exp.config.root import Config
from fires_exp.errors import ConfigError

OVERRIDES = {
    "rival=gpt_4o": "baseline=gpt_4o",
    "rival.shots=0": "baseline.shots=0",
    "rival.in_flight=3": "baseline.max_concurrent_requests=3",
    "trained_rival=smes": "trained_baseline=smes",
    "trained_rival.model=backbone": "trained_baseline.model=backbone",
    "+endpoint@teacher=openai": "+service@teacher=openai",
    "teacher=annotations": "teacher=rules",
    "teacher=annotations,openai": "teacher=rules,openai",
    "teacher.name=annotations": "teacher.name=rules",
    "teacher.in_flight=2": "teacher.max_concurrent_requests=2",
    "reward.judge.in_flight=2": "reward.judge.max_concurrent_requests=2",
    "recipe=rival": "recipe=baseline",
    "recipe=train_rival": "recipe=train_baseline",
    "recipe=synthesise": "recipe=synthesize",
    "recipe.stages=[synthesise,sft]": "recipe.stages=[synthesize,sft]",
    "recipe.policies=[rival]": "recipe.policies=[baseline]",
    "trainer.load_ahead=0": "trainer.prefetch_steps=0",
    "trainer.refuse_too_big=false": "trainer.enforce_resource_estimate=false",
    "objective=BLEU-2": "optimized_metric=BLEU-2",
    "frames=demo": "scale=demo",
    "prompt=demo": "scale=demo",
    "prompt=default": "scale=paper",
    "sft=paper": "scale=paper",
    "sft=smoke": "scale=smoke",
    "grpo=demo": "scale=demo",
    "grpo=demo,paper": "scale=demo",
    "sampling=paper": "scale=paper",
    "predict=smoke": "scale=smoke",
    "metrics=smoke": "scale=smoke",
    "epitome=smoke": "scale=smoke",
    "hints=smoke": "scale=smoke",
}


@pytest.mark.parametrize(("old", "new"), OVERRIDES.items())
def test_an_old_override_is_refused_with_the_new_one(old, new):
    with pytest.raises(ConfigError) as caught:
        refuse_old_overrides(["seed=1", old])
    line = str(caught.value)
    assert line.startswith(f"{old}: ")
    assert line.endswith(f"write {new}")
    assert "\n" not in line


def test_every_old_name_is_tried():
    old = {key for override in OVERRIDES for key in [override.lstrip("+").partition("=")[0].partition("@")[0]]}
    assert all(any(key == name or key.startswith(f"{name}.") for key in old) for name in KEYS if name != "baseline.in_flight")


@pytest.mark.parametrize(
    "override",
    [
        "--multirun", "-m", "seed=1", "metrics=paper", "sft=blenderbot", "baseline=gpt_4o", "recipe=baseline", "~test_dataset",
        "name=annotations", "epitome=default", "hydra/launcher=joblib", "paths.cache=/rival/demo",
    ],
)  # fmt: skip
def test_names_of_today_are_let_through(override):
    refuse_old_overrides([override])


def test_new_names_exist_and_old_ones_do_not():
    known = {*keys(Config), *groups()}
    assert set(KEYS.values()) <= known | {"service"}
    assert not set(KEYS) & known
    for (group, option), new in VALUES.items():
        if group in groups():
            assert new in groups()[group]
            assert option not in groups()[group]
    for (group, option), scale in SIZES.items():
        assert option not in groups().get(group, ())
        assert scale in groups()["scale"]


@pytest.mark.parametrize(
    ("tree", "named"),
    [
        ({"rival": {"shots": 3}}, "rival is called baseline"),
        ({"trainer": {"load_ahead": 1}}, "trainer.load_ahead is called trainer.prefetch_steps"),
        ({"reward": {"judge": {"in_flight": 1}}}, "reward.judge.in_flight is called reward.judge.max_concurrent_requests"),
        ({"objective": None}, "objective is called optimized_metric"),
        ({"teacher": {"name": "annotations"}}, "teacher.name=annotations"),
        ({"recipe": {"stages": ["synthesise", "sft"]}}, "recipe.stages=synthesise"),
    ],
)
def test_an_old_name_in_a_tree_is_refused_with_the_new_one(tree, named):
    with pytest.raises(ConfigError, match="^" + named):
        refuse_old_names(tree)
    with pytest.raises(ConfigError, match="^" + named):
        load_config(tree)
