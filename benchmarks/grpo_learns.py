"""Does GRPO increase a learnable reward? A toy task on the tiny random backbone, over several seeds.

The reward is the share of vowels among a completion's letters. If sampling, rewards, advantages, loss and optimizer work
together, the share rises; with random rewards (the control) it must not.

    python benchmarks/grpo_learns.py --out docs        writes docs/grpo_learns.json and docs/grpo_learns.svg
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fires_exp.config.model import PlanKind

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_module
from matplotlib.figure import Figure
from pytorch_lightning.loggers import Logger
from tqdm import tqdm

from fires_exp.config.load import load_config, register_schema
from fires_exp.config.root import Config
from fires_exp.data.dataset import read_dataset
from fires_exp.grpo.module import GrpoModule
from fires_exp.grpo.rewards import CompletionOfExample, RewardBreakdown
from fires_exp.policy.adapters import add_adapter
from fires_exp.policy.backbone import build_policy
from fires_exp.prompts.processor import PromptEncoder
from fires_exp.thinking.aspects import ThinkingPlan
from fires_exp.thinking.tags import ParsedCompletion
from fires_exp.training.step_loader import StepLoader, step_plan

PLAN = ThinkingPlan(kind=PlanKind.none, aspects=())


class VowelReward:
    """Share of vowels among letters, in [0, 1]; with `control`, random rewards instead."""

    def __init__(self, control: random.Random | None) -> None:
        self.control = control

    def score(self, completions: Sequence[CompletionOfExample]) -> list[RewardBreakdown]:
        return [self._score_one(completion) for completion, _ in completions]

    def _score_one(self, completion: ParsedCompletion) -> RewardBreakdown:
        letters = [letter for letter in completion.response.lower() if letter.isalpha()]
        share = sum(letter in "aeiou" for letter in letters) / max(1, len(letters))
        total = share if self.control is None else self.control.random()
        return RewardBreakdown(total=total, format=1.0, consistency=share, support_skill=None, judge=None)


class Curve(Logger):
    """Records the share of vowels of every step."""

    name, version = "curve", 0

    def __init__(self) -> None:
        super().__init__()
        self.shares: list[float] = []

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None: ...

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.shares.append(round(float(metrics["reward/consistency"]), 4))


def train(config: Config, steps: int, seed: int, control: bool) -> list[float]:
    """The share of vowels in the sampled completions of each step."""
    policy = build_policy(config.backbone, Path(config.paths.cache).expanduser(), torch.device("cpu"))
    add_adapter(policy, config.grpo.lora, seed)
    encoder = PromptEncoder(policy.processor, PLAN, config.prompt.max_tokens)
    examples = read_dataset(config.dataset, seed, cache=None).examples["train"][:64]
    prompts = [encoder.encode(example, [[]] * len(example.history)) for example in examples]
    plan = step_plan(len(prompts), batch_size=config.grpo.batch_size, epochs=1000, max_steps=steps, seed=seed)
    module = GrpoModule(
        policy,
        config.grpo,
        config.sampling,
        config.health,
        VowelReward(random.Random(seed) if control else None),
        PLAN,
        total_updates=steps,
        seed=seed,
        log_completions=lambda *_: None,
    )
    curve = Curve()
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_epochs=1, logger=curve, log_every_n_steps=1, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(module, StepLoader(plan, lambda index: prompts[index], prefetch=0))
    return curve.shares


def draw(curves: dict[str, list[list[float]]], path: Path) -> None:
    """One thin line per seed and a thick line for their mean."""
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.subplots()
    for (name, runs), color in zip(curves.items(), ("#0072b2", "#999999"), strict=True):
        for run in runs:
            axes.plot(run, color=color, alpha=0.25, linewidth=0.8)
        mean = [sum(values) / len(values) for values in zip(*runs, strict=True)]
        axes.plot(mean, color=color, linewidth=2.2, label=f"{name}, mean of {len(runs)} seeds")
    axes.set_xlabel("GRPO step")
    axes.set_ylabel("share of vowels in samples")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder for grpo_learns.json and grpo_learns.svg")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    register_schema()
    with initialize_config_module("fires_exp.conf", version_base="1.3"):
        overrides = [
            "+experiment=smoke", "grpo.num_generations=8", "grpo.batch_size=4", "grpo.micro_batch_size=32", "grpo.beta=0.0",
            "grpo.optimizer.learning_rate=0.02", "grpo.optimizer.schedule=constant", "dataset.limit.train=64",
        ]  # fmt: skip
        config = load_config(compose("config", overrides=overrides))
    runs = [(name, seed) for name in ("rewarded", "control") for seed in arguments.seeds]
    curves: dict[str, list[list[float]]] = {"rewarded": [], "control": []}
    for name, seed in tqdm(runs, unit="run"):
        curves[name].append(train(config, arguments.steps, seed, control=name == "control"))
    (arguments.out / "grpo_learns.json").write_text(json.dumps({"overrides": overrides, "curves": curves}) + "\n")
    draw(curves, arguments.out / "grpo_learns.svg")
    for name, shares in curves.items():
        first = [round(sum(run[:5]) / 5, 3) for run in shares]
        last = [round(sum(run[-5:]) / 5, 3) for run in shares]
        print(f"{name:>9}: first five steps {first}, last five {last}")


if __name__ == "__main__":
    main()
