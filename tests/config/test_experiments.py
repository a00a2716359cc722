"""Each experiment changes exactly what its row of the paper says."""

import re
from pathlib import Path

import pytest
import yaml

CONF = Path(__file__).resolve().parents[2] / "conf"
EXPERIMENTS = sorted((CONF / "experiment").glob("*.yaml"))

FIRES = {
    "seed": 42,
    "frames.name": "keyframes",
    "frames.max_frames": 16,
    "aspects.plan": "flexible",
    "sft.lora.rank": 8,
    "sft.lora.alpha": 16,
    "sft.lora.train_vision": False,
    "sft.fraction": 1.0,
    "sft.batch_size": 32,
    "sft.epochs": 3,
    "sft.max_steps": None,
    "sft.optimizer.learning_rate": 1e-5,
    "sft.optimizer.warmup_ratio": 0.1,
    "grpo.lora.rank": 8,
    "grpo.lora.alpha": 32,
    "grpo.batch_size": 32,
    "grpo.epochs": 3,
    "grpo.max_steps": None,
    "grpo.optimizer.learning_rate": 1e-5,
    "grpo.optimizer.warmup_ratio": 0.05,
    "grpo.num_generations": 4,
    "grpo.beta": 0.001,
    "grpo.updates_per_rollout": 1,
    "reward.format_weight": 0.1,
    "reward.consistency_weight": 1.0,
    "reward.support_skill_weight": 0.1,
}

ALL = ["visual_scene", "emotion", "situation", "response_strategy"]
NO_THOUGHT = {"aspects.name": "no_thought", "aspects.plan": "none", "aspects.aspects": []}
BASELINE = {"recipe.name": "baseline", "recipe.stages": ["evaluate"], "recipe.policies": ["baseline"]}
TRAINED = {
    "recipe.name": "train_baseline",
    "recipe.stages": ["train_baseline", "evaluate"],
    "recipe.policies": ["trained_baseline"],
}
BLENDERBOT = {
    "sft.batch_size": 16,
    "sft.gradient_checkpointing": False,
    "sft.optimizer.learning_rate": 3e-5,
    "sft.optimizer.schedule": "linear",
}
OPENAI = {"baseline.base_url": "https://api.openai.com/v1", "baseline.api_key_env": "OPENAI_API_KEY"}
GPT_4O = {"baseline.model": "gpt-4o-2024-11-20", "baseline.price_prompt": 2.5, "baseline.price_completion": 10.0}
CHANGES = {
    "wo_flet": {"aspects.name": "fixed", "aspects.plan": "fixed"},
    "wo_sft": {"recipe.name": "grpo_only", "recipe.stages": ["grpo", "evaluate"], "recipe.policies": ["zero_shot", "grpo"]},
    "wo_rl": {
        "recipe.name": "sft_only",
        "recipe.stages": ["synthesize", "sft", "evaluate"],
        "recipe.policies": ["zero_shot", "sft"],
    },
    "wo_ssr": {"reward.name": "wo_support_skill", "reward.support_skill_weight": 0.0},
    "wo_video": {"frames.name": "none"},
    "wo_scene": {"aspects.name": "wo_scene", "aspects.aspects": ALL[1:]},
    "wo_emotion": {"aspects.name": "wo_emotion", "aspects.aspects": [ALL[0], *ALL[2:]]},
    "wo_situation": {"aspects.name": "wo_situation", "aspects.aspects": [*ALL[:2], ALL[3]]},
    "wo_strategy": {"aspects.name": "wo_strategy", "aspects.aspects": ALL[:3]},
    "no_thought": NO_THOUGHT,
    "wo_all": {"aspects.name": "free", "aspects.plan": "free", "aspects.aspects": []},
    "qwen2_5_vl_0shot": {
        "aspects.name": "no_thought",
        "aspects.plan": "none",
        "aspects.aspects": [],
        "recipe.name": "zero_shot",
        "recipe.stages": ["evaluate"],
        "recipe.policies": ["zero_shot"],
    },
    "qwen2_5_vl_finetuned": {
        "aspects.name": "no_thought",
        "aspects.plan": "none",
        "aspects.aspects": [],
        "recipe.name": "sft_only",
        "recipe.stages": ["synthesize", "sft", "evaluate"],
        "recipe.policies": ["zero_shot", "sft"],
    },
    "gpt_4o_0shot": {**NO_THOUGHT, **BASELINE, **OPENAI, **GPT_4O, "baseline.shots": 0},
    "gpt_4o_3shot": {**NO_THOUGHT, **BASELINE, **OPENAI, **GPT_4O},
    "gpt_4o_3shot_fixed": {"aspects.name": "fixed", "aspects.plan": "fixed", **BASELINE, **OPENAI, **GPT_4O},
    "gpt_4o_3shot_flexible": {**BASELINE, **OPENAI, **GPT_4O},
    "gpt_3_5_3shot": {
        **NO_THOUGHT,
        **BASELINE,
        **OPENAI,
        "frames.name": "none",
        "baseline.model": "gpt-3.5-turbo-0125",
        "baseline.price_prompt": 0.5,
        "baseline.price_completion": 1.5,
    },
    "gpt_4_3shot": {
        **NO_THOUGHT,
        **BASELINE,
        **OPENAI,
        "frames.name": "none",
        "baseline.model": "gpt-4-0613",
        "baseline.price_prompt": 30.0,
        "baseline.price_completion": 60.0,
    },
    "deepseek_r1_3shot": {
        **NO_THOUGHT,
        **BASELINE,
        "frames.name": "none",
        "baseline.base_url": "https://api.deepseek.com/v1",
        "baseline.api_key_env": "DEEPSEEK_API_KEY",
        "baseline.model": "deepseek-reasoner",
        "baseline.temperature": None,
        "baseline.max_tokens": 4096,
        "baseline.timeout_seconds": 600,
        "baseline.price_prompt": 0.55,
        "baseline.price_completion": 2.19,
    },
    "smes": {**NO_THOUGHT, **TRAINED, **BLENDERBOT, "trained_baseline.name": "smes"},
    "smes_qwen": {**NO_THOUGHT, **TRAINED, "trained_baseline.name": "smes", "trained_baseline.model": "backbone"},
    "blenderbot_joint": {
        **NO_THOUGHT,
        **TRAINED,
        **BLENDERBOT,
        "frames.name": "none",
        "trained_baseline.name": "blenderbot_joint",
    },
    "bbmhr": {**NO_THOUGHT, **TRAINED, **BLENDERBOT, "frames.name": "none", "trained_baseline.name": "bbmhr"},
    "beta_0": {"grpo.beta": 0.0},
    "beta_0_04": {"grpo.beta": 0.04},
    "cold_start_25": {"sft.fraction": 0.25},
    "cold_start_50": {"sft.fraction": 0.5},
    "cold_start_75": {"sft.fraction": 0.75},
}


# Table 5: what each row is but for its test data
GENERALIZE = {
    "emotyda_esc": "fires",
    "emotyda_esc_wo_rl": "wo_rl",
    "emotyda_esc_qwen2_5_vl": "qwen2_5_vl_0shot",
    "emotyda_esc_gpt_4o": "gpt_4o_3shot",
}


def test_every_experiment_is_pinned():
    assert {path.stem for path in EXPERIMENTS} == {*CHANGES, *GENERALIZE, "fires", "smoke"}


@pytest.mark.parametrize(("key", "value"), FIRES.items())
def test_fires_at_the_paper_s_scale_is_the_paper_s_table_6(leaves, key, value):
    assert leaves("+experiment=fires", "scale=paper")[key] == value


@pytest.mark.parametrize(("experiment", "changes"), CHANGES.items())
def test_an_experiment_changes_exactly_the_leaves_of_its_row(leaves, experiment, changes):
    fires, ours = leaves("+experiment=fires", "scale=paper"), leaves(f"+experiment={experiment}", "scale=paper")
    assert fires.keys() == ours.keys()
    changed = {key: value for key, value in ours.items() if value != fires[key]}
    assert changed.pop("name") == experiment
    assert changed == changes


@pytest.mark.parametrize(("experiment", "changes"), CHANGES.items())
def test_an_experiment_changes_the_same_leaves_at_demo_scale(leaves, experiment, changes):
    fires, ours = leaves("+experiment=fires"), leaves(f"+experiment={experiment}")
    changed = {key: value for key, value in ours.items() if value != fires[key]}
    assert changed.pop("name") == experiment
    # which is false at this scale anyway
    assert changed == {key: value for key, value in changes.items() if key != "sft.gradient_checkpointing"}


@pytest.mark.parametrize("scale", ["demo", "paper"])
@pytest.mark.parametrize(("experiment", "same"), GENERALIZE.items())
def test_generalization_changes_the_test_dataset_alone(leaves, experiment, same, scale):
    before = leaves(f"+experiment={same}", f"scale={scale}")
    ours = leaves(f"+experiment={experiment}", "test_dataset.root=x", f"scale={scale}")
    changed = {key for key in before.keys() | ours.keys() if before.get(key, "absent") != ours.get(key, "absent")}
    assert {key for key in changed if not key.startswith("test_dataset")} == {"name"}
    assert ours["test_dataset.name"] == "emotyda_esc"


def test_fires_is_the_default_run_by_another_name(leaves):
    assert leaves("+experiment=fires") == leaves() | {"name": "fires"}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_overrides_nothing_with_what_it_already_was(leaves, path):
    written = yaml.safe_load(path.read_text())
    defaults = written.pop("defaults", [])
    parents = [entry for entry in defaults if isinstance(entry, str)]
    parent = [f"+experiment={name}" for name in parents]
    before = leaves(*parent)
    for entry in defaults:
        if isinstance(entry, str) or not (swap := re.match(r"override /(\w+)$", next(iter(entry)))):
            continue
        ((_, option),) = entry.items()
        assert leaves(*parent, f"{swap[1]}={option}") != before, f"{swap[1]}={option} is what {parents or 'the default run'} has"

    def own(node, prefix=""):
        for key, value in node.items():
            if isinstance(value, dict):
                yield from own(value, f"{prefix}{key}.")
            else:
                yield f"{prefix}{key}", value

    for key, value in own(written):
        assert before[key] != value, f"{key}={value} is what {parents or 'the default run'} has"
