"""The schema refuses: every check of every class, wrong types, missing values; each in one line that names the key."""

import ast
import copy
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from fires_exp.config import schema
from fires_exp.config.load import load_config, register_schema
from fires_exp.errors import ConfigError

TOGETHER = "together"
NO_THOUGHT = {"aspects.name": "no_thought", "aspects.plan": "none", "aspects.aspects": []}
SERVICE = {"teacher.name": "openai", "teacher.base_url": "http://127.0.0.1:9/v1", "teacher.model": "stub"}

# (key, impossible value, what the line says). A class that stands in several places is tried in one of them. Values that are
# impossible only beside each other stand by their keys under TOGETHER.
IMPOSSIBLE = [
    ("dataset.limit.train", 0, "dataset.limit.train=0"),
    ("dataset.limit.val", -1, "dataset.limit.val=-1"),
    ("dataset.limit.test", 0, "dataset.limit.test=0"),
    ("dataset.name", "mesk", "dataset.name=mesk: choose one of sample, mesc"),
    ("dataset.name", "mesc", "dataset=mesc needs dataset.root="),
    ("dataset.on_bad_row", "shrug", "dataset.on_bad_row=shrug: choose one of error, skip"),
    ("frames.name", "all", "frames.name=all"),
    ("frames.on_unreadable", "cry", "frames.on_unreadable=cry"),
    ("frames.max_frames", 0, "frames.max_frames=0"),
    ("frames.max_frames", 257, "frames.max_frames=257"),
    ("frames.max_frames_per_turn", 0, "frames.max_frames_per_turn=0"),
    ("frames.max_pixels", 783, "frames.max_pixels=783"),
    ("frames.salient.candidates_per_second", 0.0, "frames.salient.candidates_per_second=0.0"),
    ("frames.salient.max_candidates", 0, "frames.salient.max_candidates=0"),
    ("frames.salient.least_change", -0.1, "frames.salient.least_change=-0.1"),
    ("frames.salient.face_weight", -1.0, "frames.salient.face_weight=-1.0"),
    ("frames.salient.face_bonus", 0.5, "frames.salient.face_bonus=0.5"),
    ("backbone.source", "disk", "backbone.source=disk"),
    ("backbone.source", "hub", "backbone.path="),
    ("backbone.dtype", "float16", "backbone.dtype=float16"),
    ("backbone.attention", "full", "backbone.attention=full"),
    ("aspects.plan", "rigid", "aspects.plan=rigid"),
    ("aspects.plan", "free", "aspects.plan=free with aspects.aspects="),
    ("aspects.aspects", ["mood"], "aspects.aspects=mood"),
    ("aspects.aspects", ["emotion", "emotion"], "each aspect once"),
    ("aspects.aspects", ["situation", "emotion"], "in the order visual_scene, emotion, situation"),
    ("aspects.aspects", [], "aspects.plan=flexible with aspects.aspects=[]"),
    ("teacher.name", "oracle", "teacher.name=oracle"),
    ("teacher.name", "openai", "teacher=openai needs teacher.base_url="),
    ("teacher.base_url", "https://host/v1?key=secret", "without user, password or query"),
    ("teacher.api_key_env", "my key", "teacher.api_key_env: write the name of an environment variable"),
    ("teacher.base_url", "host/v1", "teacher.base_url: write http(s)://"),
    ("teacher.max_tokens_key", "limit", "teacher.max_tokens_key=limit"),
    ("teacher.image_detail", "fine", "teacher.image_detail=fine"),
    ("teacher.temperature", -0.1, "teacher.temperature=-0.1"),
    ("teacher.max_tokens", 0, "teacher.max_tokens=0"),
    ("teacher.in_flight", 0, "teacher.in_flight=0"),
    ("teacher.requests_per_minute", 0.0, "teacher.requests_per_minute=0.0"),
    ("teacher.timeout_seconds", -1.0, "teacher.timeout_seconds=-1.0"),
    ("teacher.retries", -1, "teacher.retries=-1"),
    ("teacher.max_cost", -1.0, "teacher.max_cost=-1.0"),
    ("teacher.max_cost", 1.0, "a budget needs teacher.price_prompt"),
    ("teacher.dry_run", True, "teacher=annotations sends nothing"),
    ("teacher.splits", ["test"], "teacher.splits=test"),
    ("teacher.splits", ["val"], "train is what is learned from"),
    ("teacher.attempts", 0, "teacher.attempts=0"),
    ("teacher.max_leaked_share", 0.0, "teacher.max_leaked_share=0.0"),
    ("baseline.shots", -1, "baseline.shots=-1"),
    ("baseline.dry_run", True, "baseline.dry_run and baseline.batch_requests go with recipe=baseline"),
    ("recipe.policies", ["baseline"], "recipe=baseline needs baseline.base_url="),
    ("trained_baseline.name", "eliza", "trained_baseline.name=eliza: choose one of none, smes"),
    ("trained_baseline.name", "smes", "write recipe=train_baseline and aspects=no_thought"),
    ("trained_baseline.model", "rnn", "trained_baseline.model=rnn"),
    ("seq2seq.source", "disk", "seq2seq.source=disk"),
    ("seq2seq.path", None, "seq2seq.path=<hub id or folder>"),
    ("seq2seq.max_target_tokens", 7, "seq2seq.max_target_tokens=7"),
    ("hints.batch_size", 0, "hints.batch_size=0"),
    ("hints.max_prompt_tokens", 63, "hints.max_prompt_tokens=63"),
    ("prompt.max_tokens", 63, "prompt.max_tokens=63"),
    ("sft.lora.rank", 0, "lora.rank=0"),
    ("sft.lora.alpha", 0, "lora.alpha=0"),
    ("sft.lora.dropout", 1.0, "lora.dropout=1.0"),
    ("sft.lora.target_modules", "(", "lora.target_modules=("),
    ("grpo.optimizer.schedule", "zigzag", "optimizer.schedule=zigzag"),
    ("grpo.optimizer.learning_rate", 0.0, "optimizer.learning_rate=0.0"),
    ("grpo.optimizer.learning_rate", float("nan"), "optimizer.learning_rate=nan"),
    ("grpo.optimizer.warmup_ratio", 1.1, "optimizer.warmup_ratio=1.1"),
    ("grpo.optimizer.weight_decay", -0.1, "optimizer.weight_decay=-0.1"),
    ("grpo.optimizer.max_grad_norm", 0.0, "optimizer.max_grad_norm=0.0"),
    ("sft.fraction", 0.0, "sft.fraction=0.0"),
    ("sft.fraction", 1.5, "sft.fraction=1.5"),
    ("sft.epochs", 0, "sft.epochs=0"),
    ("sft.max_steps", 0, "sft.max_steps=0"),
    ("sft.batch_size", 0, "sft.batch_size=0"),
    ("sft.micro_batch_size", 0, "sft.micro_batch_size=0"),
    ("sft.checkpoint_every_steps", 0, "sft.checkpoint_every_steps=0"),
    ("sft.validate_every_steps", 0, "sft.validate_every_steps=0"),
    ("grpo.epochs", 0, "grpo.epochs=0"),
    ("grpo.num_generations", 1, "grpo.num_generations=1: a group needs at least 2"),
    ("grpo.beta", -0.001, "grpo.beta=-0.001"),
    ("grpo.advantage_std", "both", "grpo.advantage_std=both"),
    ("grpo.ratio_level", "word", "grpo.ratio_level=word"),
    ("grpo.aggregation", "sum", "grpo.aggregation=sum"),
    ("grpo.scoring", "vllm", "grpo.scoring=vllm"),
    ("grpo.clip_epsilon_low", None, "grpo.clip_epsilon_low and grpo.clip_epsilon_high"),
    ("grpo.clip_epsilon_low", -0.2, "grpo.clip_epsilon_low=-0.2"),
    ("grpo.clip_epsilon_high", 0.0, "grpo.clip_epsilon_high=0.0"),
    ("grpo.updates_per_rollout", 0, "grpo.updates_per_rollout=0"),
    ("grpo.log_completions_every_steps", 0, "grpo.log_completions_every_steps"),
    ("grpo.lora.train_vision", True, "grpo.lora.train_vision=true"),
    ("health.window_steps", 0, "health.window_steps=0"),
    ("health.copied_words", 0, "health.copied_words=0"),
    ("health.short_question_words", 0, "health.short_question_words=0"),
    ("health.stop.patience_steps", 0, "health.stop.patience_steps=0"),
    ("health.stop.one_response", 0.0, "health.stop.one_response=0.0: write a share above 0, up to 1, or null"),
    ("health.stop.words_to_start", 1.5, "health.stop.words_to_start=1.5"),
    ("reward.format_weight", -1.0, "reward.format_weight=-1.0"),
    ("reward.consistency_weight", float("nan"), "reward.consistency_weight=nan"),
    ("reward.support_skill_weight", float("inf"), "reward.support_skill_weight=inf"),
    ("reward.judge_weight", 1.0, "reward.judge_weight=1 needs reward.judge.base_url="),
    ("reward.judge.attempts", 0, "reward.judge.attempts=0"),
    ("reward.judge.batch_requests", "r.jsonl", "no batch service can wait for them"),
    ("reward.judge.dry_run", True, "reward.judge.dry_run goes with reward=judge"),
    ("epitome.encoder.source", "disk", "encoder.source=disk"),
    ("epitome.encoder.source", "hub", "encoder.path="),
    ("epitome.max_tokens", 7, "epitome.max_tokens=7"),
    ("epitome.val_fraction", 0.0, "epitome.val_fraction=0.0"),
    ("epitome.test_fraction", 0.5, "epitome.test_fraction=0.5"),
    ("epitome.losses", ["focal"], "epitome.losses=focal"),
    ("epitome.losses", [], "epitome.losses=[]"),
    ("epitome.rationale_weight", -1.0, "epitome.rationale_weight=-1.0"),
    ("epitome.dropout", 1.0, "epitome.dropout=1.0"),
    ("epitome.encoder_dropout", -0.1, "epitome.encoder_dropout=-0.1"),
    ("epitome.frozen_layers", -1, "epitome.frozen_layers=-1"),
    ("epitome.epochs", 0, "epitome.epochs=0"),
    ("epitome.batch_size", 0, "epitome.batch_size=0"),
    ("sampling.temperature", -1.0, "temperature=-1.0"),
    ("sampling.temperature", 0.0, "sampling.temperature=0"),
    ("sampling.top_p", 0.0, "top_p=0.0"),
    ("sampling.engine", "sglang", "engine=sglang"),
    ("sampling.max_new_tokens", 0, "max_new_tokens=0"),
    ("predict.split", "exam", "predict.split=exam"),
    ("predict.batch_size", 0, "predict.batch_size=0"),
    ("metrics.similarity.layer", 0, "metrics.similarity.layer=0"),
    ("metrics.similarity.batch_size", 0, "metrics.similarity.batch_size=0"),
    ("metrics.include", ["comet"], "metrics.include=comet: choose one of bleu_2"),
    ("metrics.bootstrap_samples", 99, "metrics.bootstrap_samples=99"),
    ("metrics.confidence", 1.0, "metrics.confidence=1.0"),
    ("objective", "BLEU-2", "objective=BLEU-2 with predict.split=test and recipe=sft_then_grpo: write predict.split=val"),
    ("recipe.stages", ["bake"], "recipe.stages=bake"),
    ("recipe.name", "train_baseline", "recipe=train_baseline needs trained_baseline=<smes, smes_qwen"),
    (
        TOGETHER,
        NO_THOUGHT | {"recipe.name": "synthesize", "recipe.stages": ["synthesize"], "recipe.policies": []},
        "recipe=synthesize with aspects=no_thought: there is no thought to write",
    ),
    (
        TOGETHER,
        NO_THOUGHT | SERVICE | {"teacher.dry_run": True},
        "not with recipe=sft_then_grpo and aspects=no_thought",
    ),
    ("recipe.stages", ["sft", "synthesize"], "each stage once, in the order"),
    ("recipe.stages", ["sft", "sft"], "each stage once, in the order"),
    ("recipe.stages", ["synthesize", "sft", "grpo"], "evaluate and policies go together"),
    ("recipe.stages", ["evaluate"], "does not train sft"),
    ("recipe.policies", ["ppo"], "recipe.policies=ppo"),
    ("recipe.policies", [], "evaluate and policies go together"),
    ("trainer.accelerator", "abacus", "trainer.accelerator=abacus"),
    ("trainer.strategy", "magic", "trainer.strategy=magic"),
    ("trainer.devices", 0, "trainer.devices=0"),
    ("trainer.devices", 2, "trainer.devices=2 on trainer.num_nodes=1"),
    ("trainer.num_nodes", 0, "trainer.num_nodes=0"),
    ("trainer.time_limit", "55:00", "trainer.time_limit=55:00: write [days-]hours:minutes:seconds"),
    ("trainer.load_ahead", -1, "trainer.load_ahead=-1"),
    ("trainer.keep_checkpoints", 0, "trainer.keep_checkpoints=0"),
    ("logger.name", "paper", "logger.name=paper"),
    ("logger.wandb_mode", "sometimes", "logger.wandb_mode=sometimes"),
    ("logger.completions", -1, "logger.completions=-1"),
    ("logger.finish_seconds", 0.0, "logger.finish_seconds=0.0"),
    ("seed", -1, "seed=-1"),
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
    """What `load_config` says about the default run with one value put in, or those that go together."""

    def load(key, value):
        tree = copy.deepcopy(default_tree)
        for place, put_in in value.items() if key == TOGETHER else [(key, value)]:
            *path, leaf = place.split(".")
            node = tree
            for part in path:
                node = node[part]
            node[leaf] = put_in
        with pytest.raises(ConfigError) as caught:
            load_config(tree)
        return str(caught.value)

    return load


@pytest.mark.parametrize(("key", "value", "said"), IMPOSSIBLE)
def test_an_impossible_value_is_refused_in_one_line(refusal, key, value, said):
    line = refusal(key, value)
    assert said in line
    assert "\n" not in line


def test_every_check_of_the_schema_refuses_something(refusal, monkeypatch):
    path = Path(schema.__file__)
    checks = {
        (node.lineno, node.end_lineno)
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef) and function.name != "_one_of"
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("_check", "_one_of")
    }
    refused = set()
    check = schema._check

    def remember(holds, message):
        frame = sys._getframe(1)
        frame = frame.f_back if frame.f_code.co_name == "_one_of" else frame
        if not holds:
            refused.add(next(span for span in checks if span[0] <= frame.f_lineno <= span[1]))
        check(holds, message)

    monkeypatch.setattr(schema, "_check", remember)
    for key, value, _ in IMPOSSIBLE:
        refusal(key, value)
    assert sorted(checks - refused) == [], "lines of schema.py that no row of IMPOSSIBLE reaches"


@pytest.mark.parametrize(("key", "value"), WRONG_TYPES)
def test_a_wrong_type_is_refused_in_one_line_that_names_the_key(refusal, key, value):
    line = refusal(key, value)
    assert key in line
    assert "\n" not in line


@pytest.mark.parametrize("key", ["skil", "reward.skil", "sft.lora.rang", "predict.decoding.top_k"])
def test_a_key_that_nothing_reads_is_refused_in_one_line_that_names_it(refusal, composed, key):
    line = refusal(key, 0)
    assert line.startswith(f"{key}: ")
    assert "\n" not in line
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
    with pytest.raises(ConfigError, match=r"^sft\.epochs: Interpolation key 'nope' not found") as caught:
        load_config(composed("sft.epochs=${nope}"))
    assert "\n" not in str(caught.value)
