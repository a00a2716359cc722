"""The schema refuses impossible values, contradictions, wrong types and missing values; each in one line that names the key."""

import copy
import dataclasses
import functools
import re
import typing
from enum import Enum, StrEnum

import pytest
from hydra import compose, initialize_config_module
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from fires_exp.config.constraints import check
from fires_exp.config.load import load_config, register_schema
from fires_exp.config.model import LoraConfig
from fires_exp.config.options import group_of, is_optional, keys
from fires_exp.config.root import Config
from fires_exp.errors import ConfigError

KEYS = keys(Config)
NO_THOUGHT = {"aspects.name": "no_thought", "aspects.plan": "none", "aspects.aspects": []}
SERVICE = {"teacher.name": "openai", "teacher.base_url": "http://127.0.0.1:9/v1", "teacher.model": "stub"}


def is_nested_optional(key):
    """Whether the default run has null where a group of keys would stand."""
    parts = key.split(".")
    return any(is_optional(KEYS[".".join(parts[:end])][0]) for end in range(1, len(parts)))


def beyond_the_bounds():
    """For each bound of each key the nearest value that breaks it."""
    for key, (annotation, declared) in KEYS.items():
        if is_nested_optional(key):
            continue
        step = 1 if int in (annotation, *typing.get_args(annotation)) else 1e-9
        for bound, value in (
            (declared.ge, declared.ge is not None and declared.ge - step),
            (declared.gt, declared.gt),
            (declared.le, declared.le is not None and declared.le + step),
            (declared.lt, declared.lt),
        ):
            if bound is not None:
                yield key, value if step == 1 else float(value)


def enumerations():
    """Each key whose values are names, with whether it is a list of them."""
    for key, (annotation, _) in KEYS.items():
        for part in (annotation, *typing.get_args(annotation)):
            if isinstance(part, type) and issubclass(part, Enum) and not is_nested_optional(key):
                yield key, part, typing.get_origin(annotation) is list


# of one key, where it is more than a bound or a name
IMPOSSIBLE = [
    ("teacher.base_url", "https://host/v1?key=secret"),
    ("teacher.base_url", "host/v1"),
    ("teacher.api_key_env", "my key"),
    ("sft.lora.target_modules", "("),
    ("grpo.lora.train_vision", True),
    ("grpo.optimizer.learning_rate", float("nan")),
    ("reward.consistency_weight", float("nan")),
    ("reward.support_skill_weight", float("inf")),
    ("aspects.aspects", ["emotion", "emotion"]),
    ("aspects.aspects", ["situation", "emotion"]),
    ("teacher.splits", ["val"]),
    ("epitome.losses", []),
    ("trainer.time_limit", "55:00"),
    ("recipe.stages", ["bake"]),
    ("recipe.stages", ["sft", "synthesize", "evaluate"]),
    ("recipe.stages", ["sft", "sft", "evaluate"]),
]

# values that contradict others of the default run, or each other, and the keys or options that the line names
CONTRADICTIONS = [
    ({"dataset.name": "mesc"}, ["dataset=mesc", "dataset.root="]),
    ({"backbone.source": "hub"}, ["backbone.source=hub", "backbone.path="]),
    ({"seq2seq.path": None}, ["seq2seq.source=hub", "seq2seq.path="]),
    ({"epitome.encoder.source": "hub"}, ["epitome.encoder.source=hub", "epitome.encoder.path="]),
    ({"aspects.plan": "free"}, ["aspects.plan=free", "aspects.aspects="]),
    ({"aspects.aspects": []}, ["aspects.plan=flexible", "aspects.aspects=[]"]),
    ({"teacher.name": "openai"}, ["teacher=openai", "teacher.base_url=", "teacher.model="]),
    ({"teacher.max_cost": 1.0}, ["teacher.max_cost=1.0", "teacher.price_prompt", "teacher.price_completion"]),
    ({"teacher.dry_run": True}, ["teacher=rules", "dry_run", "teacher=openai"]),
    ({"baseline.dry_run": True}, ["baseline.dry_run", "recipe=baseline"]),
    ({"recipe.policies": ["baseline"]}, ["recipe=baseline", "baseline.base_url="]),
    ({"trained_baseline.name": "smes"}, ["trained_baseline=smes", "recipe=train_baseline", "aspects=no_thought"]),
    (
        {"trained_baseline.name": "smes", "recipe.name": "t", "recipe.stages": ["train_baseline", "evaluate"]}
        | {"recipe.policies": ["trained_baseline"]},
        ["trained_baseline=smes", "aspects=flexible"],
    ),
    (
        NO_THOUGHT | {"trained_baseline.name": "smes"},
        ["trained_baseline=smes", "recipe=train_baseline"],
    ),
    (
        NO_THOUGHT
        | {"recipe.name": "train_baseline", "recipe.stages": ["train_baseline", "evaluate"]}
        | {"recipe.policies": ["trained_baseline"]},
        ["recipe=train_baseline", "trained_baseline="],
    ),
    ({"grpo.clip_epsilon_low": None}, ["grpo.clip_epsilon_low", "grpo.clip_epsilon_high"]),
    ({"sampling.temperature": 0.0}, ["sampling.temperature=0"]),
    ({"reward.judge_weight": 1.0}, ["reward.judge_weight=1", "reward.judge.base_url="]),
    ({"reward.judge.batch_requests": "r.jsonl"}, ["reward.judge.batch_requests"]),
    ({"reward.judge.dry_run": True}, ["reward.judge.dry_run", "reward=judge"]),
    ({"optimized_metric": "BLEU-2"}, ["optimized_metric=BLEU-2", "predict.split=test", "recipe=sft_then_grpo"]),
    (NO_THOUGHT | SERVICE | {"teacher.dry_run": True}, ["teacher.dry_run", "recipe=sft_then_grpo", "aspects=no_thought"]),
    ({"recipe.stages": ["synthesize", "sft", "grpo"]}, ["recipe.policies", "evaluate"]),
    ({"recipe.policies": []}, ["recipe.policies", "evaluate"]),
    ({"recipe.stages": ["evaluate"]}, ["recipe.policies", "recipe.stages", "sft"]),
    ({"trainer.devices": 2}, ["trainer.devices=2", "trainer.num_nodes=1", "trainer.strategy=single"]),
]

WRONG_TYPES = [
    ("seed", "many"),
    ("seed", 1.5),
    ("sft.lora.rank", "eight"),
    ("sft.max_steps", 1.5),
    ("grpo.beta", "small"),
    ("trainer.progress", "perhaps"),
    ("aspects.aspects", 3),
    ("dataset.limit", 5),
    ("sft.optimizer", "adam"),
    ("reward.format_weight", None),
    ("frames.name", None),
]


@pytest.fixture(scope="module")
def default_tree():
    """The default run as a plain tree."""
    register_schema()
    with initialize_config_module("fires_exp.conf", version_base="1.3"):
        return OmegaConf.to_container(compose("config"), resolve=True)


@pytest.fixture
def refusal(default_tree):
    """The error of `load_config` for the default run with some values changed."""

    def load(changes):
        tree = copy.deepcopy(default_tree)
        for key, value in changes.items():
            *path, leaf = key.split(".")
            node = tree
            for part in path:
                node = node[part]
            node[leaf] = value
        with pytest.raises(ConfigError) as caught:
            load_config(tree)
        line = str(caught.value)
        assert "\n" not in line
        return line

    return load


@pytest.fixture(scope="module")
def default_config(default_tree):
    return load_config(default_tree)


@pytest.mark.parametrize(("key", "value"), list(beyond_the_bounds()))
def test_a_number_beyond_its_bounds_is_refused_by_its_full_key(default_config, key, value):
    config = copy.deepcopy(default_config)
    *path, leaf = key.split(".")
    setattr(functools.reduce(getattr, path, config), leaf, value)
    with pytest.raises(ConfigError, match=rf"^{re.escape(f'{key}={value}')}: write a number"):
        check(config, "")


@pytest.mark.parametrize(("key", "value"), IMPOSSIBLE)
def test_an_impossible_value_is_refused_by_its_full_key(refusal, key, value):
    assert refusal({key: value}).startswith(key)


def test_most_keys_with_a_number_have_a_bound():
    numbers = {key for key, (kind, _) in KEYS.items() if {int, float} & {kind, *typing.get_args(kind)}}
    bounded = {key for key, (_, declared) in KEYS.items() if (declared.ge, declared.gt) != (None, None)}
    assert numbers == bounded
    assert len(list(beyond_the_bounds())) > 100


def test_the_bounds_in_words(refusal):
    assert "above 0 and at most 1" in refusal({"sft.fraction": 1.5})
    assert "of at least 1 and at most 256; frames=none" in refusal({"frames.max_frames": 257})
    assert "of at least 1, or null" in refusal({"sft.max_steps": 0})
    assert "above 0 and below 0.5" in refusal({"epitome.test_fraction": 0.5})


@pytest.mark.parametrize(
    ("key", "names", "is_list"), list(enumerations()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_an_unknown_name_gets_the_choices_and_the_nearest(refusal, key, names, is_list):
    near = next(iter(names)).value
    line = refusal({key: [near + "x"] if is_list else near + "x"})
    assert line.startswith(f"{key}={near}x: choose from {', '.join(names)}")
    assert line.endswith(f"did you mean {near}?")


def test_the_names_of_an_enumeration_are_what_one_writes():
    for _, names, _ in enumerations():
        assert issubclass(names, StrEnum)
        assert [member.name for member in names] == [member.value for member in names]


@pytest.mark.parametrize(("changes", "named"), CONTRADICTIONS)
def test_a_contradiction_names_both_sides(refusal, changes, named):
    line = refusal(changes)
    assert [name for name in named if name not in line] == []


def test_a_secret_setting_is_not_repeated(refusal):
    assert "key=secret" not in refusal({"teacher.base_url": "https://host/v1?key=secret"})
    assert "my key" not in refusal({"teacher.api_key_env": "my key"})


def test_a_group_can_be_built_by_hand_and_is_checked_in_a_tree_alone():
    assert LoraConfig(rank=0, alpha=8, dropout=0.0, target_modules=".*", train_vision=False).rank == 0


def test_every_key_has_a_meaning_and_no_default():
    groups = {group for annotation, _ in KEYS.values() if (group := group_of(annotation)) is not None}
    for node in {Config, *groups}:
        for field in dataclasses.fields(node):
            assert field.metadata["setting"].meaning
            assert field.default is dataclasses.MISSING
            assert field.default_factory is dataclasses.MISSING


@pytest.mark.parametrize(("key", "value"), WRONG_TYPES)
def test_a_wrong_type_is_refused_in_one_line_that_names_the_key(refusal, key, value):
    assert refusal({key: value}).startswith(key)


@pytest.mark.parametrize("key", ["skil", "reward.skil", "sft.lora.rang", "predict.decoding.top_k"])
def test_a_key_that_nothing_reads_is_refused_in_one_line_that_names_it(refusal, composed, key):
    assert refusal({key: 0}).startswith(f"{key}: ")
    with pytest.raises(ConfigError, match=f"^{key}: "):
        load_config(composed(f"+{key}=0"))
    with pytest.raises(ConfigCompositionException, match=key):
        composed(f"{key}=0")


def test_a_missing_value_is_one_line_with_what_to_write(composed):
    for group, key in (("mesc", "dataset.root"), ("emotyda_esc", "dataset.root"), ("jsonl", "dataset.root")):
        with pytest.raises(ConfigError, match=rf"^{key} has no value; write {key}=…$"):
            load_config(composed(f"dataset={group}"))
    with pytest.raises(ConfigError, match=r"^test_dataset\.root has no value; write test_dataset\.root=…$"):
        load_config(composed("+experiment=emotyda_esc"))


def test_a_reference_to_nothing_is_one_line_that_names_the_key(composed):
    with pytest.raises(ConfigError, match=r"^sft\.epochs: .*nope") as caught:
        load_config(composed("sft.epochs=${nope}"))
    assert "\n" not in str(caught.value)
