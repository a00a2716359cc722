"""GRPO as a stage: the policy so far in, a fresh adapter out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fires_exp.modules.batches import StepLoader
from fires_exp.modules.grpo import GrpoModule
from fires_exp.rewards.total import Reward, RewardBreakdown
from fires_exp.rollouts.rollout import RolloutGroup
from fires_exp.stages.artefact import Artefact, code_hash
from fires_exp.stages.fit import ADAPTER, fit, fresh_adapter, log_table, training_plan
from fires_exp.stages.workspace import MODEL_CODE, Workspace

COMPLETIONS = "completions.jsonl"


def make_grpo(work: Workspace, sft: Artefact | None) -> Artefact:
    """GRPO's adapter on top of the folded cold start, or on the untuned backbone (w/o SFT)."""
    config = work.config.grpo
    examples = work.examples("train")
    settings = asdict(config)
    del settings["checkpoint_every_steps"], settings["log_completions_every_steps"]
    depends_on = {
        **work.model_inputs(),
        "examples": work.identity(examples, work.dataset),
        "sft": sft.key if sft else None,
        "grpo": settings,
        "sampling": asdict(work.config.sampling),
        "reward": asdict(work.config.reward),
        "code": code_hash(
            *MODEL_CODE, "rollouts", "scores", "rewards", "grpo", "modules/batches.py", "modules/training.py", "modules/grpo.py",
            "stages/grpo.py", "stages/fit.py",
        ),
    }  # fmt: skip

    def build(folder: Path) -> None:
        policy = work.policy([sft.folder / ADAPTER] if sft else [])
        fresh_adapter(policy, config, work.config.seed)
        encode = work.encode(policy.processor, work.dataset, examples)
        plan = training_plan(config, len(examples), work.config.seed)

        def show(step: int, groups: Sequence[RolloutGroup], rewards: Sequence[Sequence[RewardBreakdown]]) -> None:
            rows = completion_rows(step, groups, rewards)
            _append_rows(folder / COMPLETIONS, step, rows)
            log_table(module.loggers, "completions", rows, step)

        module = GrpoModule(
            policy,
            config,
            work.config.sampling,
            Reward(config=work.config.reward, scorer=None),
            work.plan,
            total_updates=len(plan) * config.updates_per_rollout,
            seed=work.config.seed,
            show_completions=show,
        )
        fit(
            module,
            StepLoader(plan, lambda index: encode(examples[index])),
            folder,
            work.config,
            stage="grpo",
            run_folder=work.run_folder,
            checkpoint_every_steps=config.checkpoint_every_steps,
        )

    return work.make("grpo", depends_on, build)


def completion_rows(
    step: int, groups: Sequence[RolloutGroup], rewards: Sequence[Sequence[RewardBreakdown]]
) -> list[dict[str, Any]]:
    """A step's completions with their rewards by part, one row each."""
    return [
        {
            "step": step,
            "example_id": group.example.id,
            "place": place,
            "reward": breakdown.total,
            **{f"reward_{name}": value for name, value in breakdown.parts.items()},
            "finish_reason": rollout.completion.finish_reason,
            "completion": rollout.completion.text,
            "reference_response": group.example.reference_response,
        }
        for group, group_rewards in zip(groups, rewards, strict=True)
        for place, (rollout, breakdown) in enumerate(zip(group.rollouts, group_rewards, strict=True))
    ]


def _append_rows(path: Path, step: int, rows: Sequence[dict[str, Any]]) -> None:
    """Append; a step that is done again after a restart replaces what it wrote before."""
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines()
        if lines and json.loads(lines[-1])["step"] >= step:
            kept = [line for line in lines if json.loads(line)["step"] < step]
            path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
