"""The project's own side of the step benchmark: `GrpoModule` under a Lightning trainer, one step per round (see grpo_step.py)."""

from __future__ import annotations

import hashlib
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any
from unittest.mock import patch

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers.logger import DummyLogger
from step_clock import Line, StepClock
from step_floor import floor_seconds, measured_rates, step_work
from step_task import PLAN, RawPrompt, StepTask, build_backbone, prompts_of_round, reward_of, weights_fingerprint

import fires_exp.grpo.module
from fires_exp.data.records import SupportExample
from fires_exp.grpo.module import GrpoModule
from fires_exp.grpo.rewards import RewardBreakdown
from fires_exp.grpo.rollouts import RolloutGroup, collect_rollouts
from fires_exp.policy.adapters import add_adapter
from fires_exp.policy.policy import Policy
from fires_exp.prompts.processor import EncodedPrompt, PromptEncoder
from fires_exp.thinking.tags import ParsedCompletion


class TextReward:
    """`reward_of` as a `CompletionReward`."""

    def score(self, completions: Sequence[tuple[ParsedCompletion, SupportExample]]) -> list[RewardBreakdown]:
        totals = [reward_of(completion.thought + completion.response) for completion, _ in completions]
        return [RewardBreakdown(total=total, format=1.0, consistency=total, support_skill=None, judge=None) for total in totals]


class Rounds:
    """A loader that waits for the parent's signal, starts the clock and encodes the prompts of the round."""

    def __init__(self, prompts: list[list[RawPrompt]], encoder: PromptEncoder, clock: StepClock, line: Line) -> None:
        self.prompts = prompts
        self.encoder = encoder
        self.clock = clock
        self.line = line

    def __len__(self) -> int:
        return len(self.prompts)

    def __iter__(self) -> Iterator[list[EncodedPrompt]]:
        for round_prompts in self.prompts:
            self.line.wait_for_go()
            self.clock.start()
            with self.clock.part("preparing"):
                batch = [self.encoder.encode(raw.example, raw.frames) for raw in round_prompts]
            yield batch


class Report(Callback):
    """Stops the clock after a step and reports times, memory and token counts."""

    def __init__(self, clock: StepClock, line: Line) -> None:
        self.clock = clock
        self.line = line
        self.groups: list[RolloutGroup] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        report = self.clock.stop()
        ids = [group.prompt.prompt_ids.tolist() for group in self.groups]
        self.line.send(
            **asdict(report),
            prompt_tokens=[len(prompt_ids) for prompt_ids in ids],
            completion_tokens=[len(rollout.completion.ids) for group in self.groups for rollout in group.rollouts],
            prompts_fingerprint=hashlib.sha256(str(ids).encode()).hexdigest(),
        )


def build(task: StepTask) -> Policy:
    """The policy with its fresh adapter. The end token is suppressed, so that every completion has its full length."""
    policy = build_backbone(task)
    policy.suppressed_V[policy.eos_id] = True
    add_adapter(policy, task.grpo.lora, task.seed)
    return policy


def main() -> None:
    line = Line()
    task = StepTask.from_json(sys.argv[1])
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(task.threads)
    policy = build(task)
    clock = StepClock(task.device)
    report = Report(clock, line)

    def collect_and_keep(*args: Any, **kwargs: Any) -> list[RolloutGroup]:
        with clock.part("sampling"):
            report.groups = collect_rollouts(*args, **kwargs)
        return report.groups

    clock.watch_torch()
    module = GrpoModule(
        policy, task.grpo, task.sampling, task.health, TextReward(), PLAN, total_updates=task.rounds, seed=task.seed,
        log_completions=lambda *_: None,
    )  # fmt: skip
    trainer = pl.Trainer(
        accelerator="gpu" if task.device == "cuda" else "cpu", devices=1, max_epochs=1, logger=DummyLogger(),
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        callbacks=[report],
    )  # fmt: skip
    prompts = [prompts_of_round(task, policy.processor, index) for index in range(task.rounds)]
    encoder = PromptEncoder(policy.processor, PLAN, task.shape.prompt_tokens)
    encoded = [encoder.encode(raw.example, raw.frames) for raw in prompts[0]]
    dtype = next(policy.qwen.parameters()).dtype
    work = step_work(
        policy.qwen.config,
        prompt_tokens=[len(prompt.prompt_ids) for prompt in encoded],
        image_grids=[grid for prompt in encoded for grid in prompt.image_grid_thw.tolist()],
        generations=task.generations,
        new_tokens=task.new_tokens,
        lora_rank=task.grpo.lora.rank,
        element_bytes=dtype.itemsize,
    )
    rates = measured_rates(task.device, dtype)
    line.send(
        weights=weights_fingerprint(policy.model),
        versions={"torch": torch.__version__},
        dtype=str(dtype).removeprefix("torch."),
        work=asdict(work),
        rates=asdict(rates),
        floor_seconds=floor_seconds(work, rates),
    )
    with patch.object(fires_exp.grpo.module, "collect_rollouts", collect_and_keep):
        trainer.fit(module, Rounds(prompts, encoder, clock, line))


if __name__ == "__main__":
    main()
