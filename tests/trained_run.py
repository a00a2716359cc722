"""A finished run of the tiny backbone, in seconds, for tests that use its model."""

from __future__ import annotations

from hydra import compose, initialize_config_module

from fires_exp.config.commands import COMMAND_CONFIGS, register_command_schemas
from fires_exp.config.load import load_as, load_config, register_schema, write_yaml
from fires_exp.pipeline.run import run_recipe

SMALL = [
    "scale=smoke",
    "reward=wo_support_skill", "metrics.include=[bleu_2]", "dataset.limit.train=4", "dataset.limit.val=2", "dataset.limit.test=2",
    "sft.optimizer.learning_rate=0.02", "grpo.num_generations=2", "trainer.progress=false",
]  # fmt: skip


def composed(*overrides):
    register_schema()
    with initialize_config_module("fires_exp.conf", version_base="1.3"):
        return load_config(compose("config", overrides=list(overrides)))


def composed_command(name, *overrides):
    """The configuration of a command."""
    register_command_schemas()
    with initialize_config_module("fires_exp.conf", version_base="1.3"):
        return load_as(COMMAND_CONFIGS[name], compose(name, overrides=list(overrides)))


def run_small(folder, cache, *overrides):
    """Run SFT and GRPO in `folder/run` with artifacts in `folder/artifacts`; the run folder."""
    run_folder = folder / "run"
    run_folder.mkdir(parents=True)
    config = composed(*SMALL, f"paths.artifacts={folder / 'artifacts'}", f"paths.cache={cache}", *overrides)
    write_yaml(config, run_folder / "resolved.yaml")
    run_recipe(config, run_folder)
    return run_folder
