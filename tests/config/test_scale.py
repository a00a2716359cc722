"""`scale=` sets every size; what is chosen by an option, an experiment or the command line wins over it."""

import pytest
import yaml
from hydra import compose, initialize_config_module

from fires_exp.config.load import register_schema
from fires_exp.config.options import conf_folder, groups

SCALES = ("demo", "paper", "smoke")


def written(node, prefix=""):
    """The dotted keys of a YAML tree that have a value."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from written(value, f"{prefix}{key}.")
        elif key != "defaults":
            yield f"{prefix}{key}"


def keys_of(group, option):
    return set(written(yaml.safe_load((conf_folder() / group / f"{option}.yaml").read_text())))


def test_the_group_has_these_scales():
    assert groups()["scale"] == SCALES


def test_every_scale_sets_the_same_sizes():
    assert keys_of("scale", "demo") == keys_of("scale", "paper")


def test_a_size_is_written_in_the_scale_alone():
    """The options of these groups stand after the scale in `conf/config.yaml`, so a size there would win over it."""
    sizes = keys_of("scale", "demo")
    for group in ("frames", "grpo", "sampling", "predict"):
        for option in groups()[group]:
            assert not sizes & {f"{group}.{key}" for key in keys_of(group, option)}, f"{group}={option}"
    assert not sizes & {f"sft.{key}" for key in keys_of("sft", "default")}


def test_the_default_scale_is_demo(leaves):
    assert leaves() == leaves("scale=demo")
    assert leaves()["scale"] == leaves()["name"] == "demo"


def test_the_scale_names_a_run_without_an_experiment(leaves):
    assert leaves("scale=smoke")["name"] == "smoke"
    assert leaves("scale=paper")["name"] == "paper"


def test_the_sizes_of_each_scale(leaves):
    keys = (
        "frames.max_frames", "prompt.max_tokens", "sft.epochs", "sft.max_steps", "sft.batch_size", "grpo.max_steps",
        "grpo.batch_size", "sampling.max_new_tokens", "predict.decoding.max_new_tokens", "dataset.limit.train",
    )  # fmt: skip
    sizes = {scale: tuple(leaves(f"scale={scale}")[key] for key in keys) for scale in SCALES}
    assert sizes == {
        "demo": (3, 640, 2, 26, 8, 9, 3, 104, 104, None),
        "paper": (16, 4096, 3, None, 32, None, 32, 256, 256, None),
        "smoke": (3, 640, 1, 2, 4, 2, 2, 12, 12, 8),
    }


def test_a_scale_selects_models_of_its_size(leaves):
    sources = ("backbone.source", "metrics.similarity.encoder.source", "epitome.encoder.source")
    assert [leaves("scale=smoke")[key] for key in sources] == ["tiny", "tiny", "tiny"]
    assert [leaves("scale=paper")[key] for key in sources] == ["embedded", "hub", "minilm"]


def test_smoke_is_also_an_experiment(leaves):
    assert leaves("+experiment=smoke") == leaves("scale=smoke")


@pytest.mark.parametrize("scale", SCALES)
def test_an_option_that_was_chosen_wins_over_the_scale(leaves, scale):
    ours = leaves("sft=blenderbot", "backbone=smollm2_vl", "metrics=offline", f"scale={scale}")
    assert ours["sft.batch_size"] == 16
    assert ours["sft.optimizer.learning_rate"] == 3e-5
    assert ours["sft.max_steps"] == leaves(f"scale={scale}")["sft.max_steps"]
    assert ours["backbone.source"] == "embedded"
    assert ours["metrics.similarity.encoder.source"] == "minilm"


@pytest.mark.parametrize("scale", ["demo", "paper"])
def test_an_experiment_wins_over_the_scale(leaves, scale):
    scaled = f"scale={scale}"
    assert leaves("+experiment=cold_start_25", scaled)["sft.fraction"] == 0.25
    assert leaves("+experiment=wo_video", scaled)["frames.name"] == "none"
    assert leaves("+experiment=bbmhr", scaled)["sft.optimizer.learning_rate"] == 3e-5
    assert leaves("+experiment=beta_0", scaled)["grpo.beta"] == 0


@pytest.mark.parametrize("scale", SCALES)
def test_the_command_line_wins_over_everything(leaves, scale):
    command = ("grpo.max_steps=3", "sft.fraction=0.5", "frames=none", "reward=wo_support_skill", "name=mine")
    ours = leaves("+experiment=cold_start_25", f"scale={scale}", *command)
    keys = ("grpo.max_steps", "sft.fraction", "frames.name", "reward.support_skill_weight", "name")
    assert [ours[key] for key in keys] == [3, 0.5, "none", 0.0, "mine"]


def test_the_order_of_overrides_does_not_matter(leaves):
    assert leaves("scale=paper", "+experiment=wo_rl") == leaves("+experiment=wo_rl", "scale=paper")


def test_a_sweep_may_go_over_scales():
    register_schema()
    with initialize_config_module("fires_exp.conf", version_base="1.3"):
        tree = compose("config", ["+experiment=wo_rl", "scale=paper"], return_hydra_config=True)
    assert tree.hydra.runtime.choices.scale == "paper"
    assert tree.name == "wo_rl"
