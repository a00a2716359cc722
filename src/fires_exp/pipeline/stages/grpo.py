"""GRPO as a stage: the policy so far in, a fresh adapter out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fires_exp.config.schema import HealthConfig
from fires_exp.data.records import SupportExample
from fires_exp.distributed import collectives
from fires_exp.errors import CollapseError
from fires_exp.grpo.module import GrpoModule
from fires_exp.grpo.monitoring.collapse import first_collapse
from fires_exp.grpo.rewards import Reward, RewardBreakdown
from fires_exp.grpo.rollouts import RolloutGroup
from fires_exp.pipeline.judge import judge_identity, reference_judge
from fires_exp.pipeline.stages.epitome import NamedScorer
from fires_exp.pipeline.workspace import Workspace
from fires_exp.storage.artifacts import Artifact, whole_lines
from fires_exp.storage.code_fingerprint import code_fingerprint
from fires_exp.training.checkpoints import checkpointed_steps
from fires_exp.training.fit import ADAPTER, COMPLETIONS, METRICS, fit, fresh_adapter, keep_steps, training_plan
from fires_exp.training.loggers.factory import show_samples
from fires_exp.training.step_loader import StepLoader


def make_grpo(work: Workspace, sft: Artifact | None, scorer: NamedScorer | None) -> Artifact:
    """GRPO's adapter on top of the folded cold start, or on the untuned backbone (w/o SFT). The scorer is asked where the reward
    wants support skill.

    Raises `CollapseError` where `health.stop` stops it, or would have stopped what is there already.
    """
    config = work.config.grpo
    examples = work.examples("train")
    settings, reward = asdict(config), asdict(work.config.reward)
    del settings["checkpoint_every_steps"], settings["log_completions_every_steps"], settings["overlap_rewards"]
    del reward["support_skill"], reward["judge"]
    rewarded = work.config.reward.support_skill_weight > 0
    health = asdict(work.config.health)
    del health["name"], health["stop"]  # a run that was stopped goes on in its folder when the rule is eased
    depends_on = {
        **work.model_inputs(),
        "examples": work.identity(examples, work.dataset),
        "sft": sft.key if sft else None,
        "grpo": settings,
        "sampling": asdict(work.config.sampling),
        "reward": reward,
        "scorer": scorer.identity if scorer and rewarded else None,
        "judge": judge_identity(work),
        "health": health,
        "code": code_fingerprint("pipeline.stages.grpo"),
    }

    def build(folder: Path) -> None:
        check_health(folder, work.config.health)
        policy = work.policy([sft.folder / ADAPTER] if sft else [])
        fresh_adapter(policy, config, work.config.seed)
        encode = work.encode(policy.processor, work.dataset, examples)
        plan = training_plan(config, len(examples), work.config.seed)
        if collectives.is_first():
            keep_steps(folder / COMPLETIONS, checkpointed_steps(folder))

        @collectives.first_only
        def show(step: int, groups: Sequence[RolloutGroup], rewards: Sequence[Sequence[RewardBreakdown]]) -> None:
            rows = completion_rows(step, groups, rewards)
            _append_rows(folder / COMPLETIONS, rows)
            show_samples(module.loggers, work.config.logger, rows, step)

        module = GrpoModule(
            policy,
            config,
            work.config.sampling,
            work.config.health,
            Reward(
                config=work.config.reward,
                scorer=scorer.scorer if scorer and rewarded else None,
                judge=reference_judge(work, folder),
            ),
            work.plan,
            total_updates=len(plan) * config.updates_per_rollout,
            seed=work.config.seed,
            show_completions=show,
        )
        fit(
            module,
            StepLoader(plan, lambda index: encode(examples[index]), ahead=work.config.trainer.load_ahead),
            folder,
            work.config,
            stage="grpo",
            run_folder=work.run_folder,
            checkpoint_every_steps=config.checkpoint_every_steps,
        )
        check_health(folder, work.config.health)

    artifact = work.make("grpo", depends_on, build, together=True)
    check_health(artifact.folder, work.config.health)
    return artifact


def check_health(folder: Path, config: HealthConfig) -> None:
    """Raises `CollapseError` where the stop rule ends a run with the steps that the folder's `metrics.jsonl` tells of."""
    path = folder / METRICS
    rows = [json.loads(line) for line in whole_lines(path)]
    collapse = first_collapse(rows, config.stop)
    if collapse is None:
        return
    steps = checkpointed_steps(folder)
    ease = f"ease health.stop.{collapse.sign}"
    if (folder / ADAPTER).is_dir():
        kept, go_on = f"all {len(rows)} steps were made without this rule, their adapter is in {folder}", f"{ease} to take it"
    elif steps:
        kept, go_on = f"the checkpoint of step {steps}, before the sign, is kept in {folder}", f"{ease} to go on from there"
    else:
        kept, go_on = "no checkpoint is from before the sign", f"{ease} to start again"
    raise CollapseError(
        f"grpo stopped, a sign of reward hacking: {collapse}; {kept}. "
        f"Raise grpo.beta or lower grpo.optimizer.learning_rate in a new run, or {go_on}",
        folder,
    )


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
            "prompt": _as_text(group.example),
            "completion": rollout.completion.text,
            "thought": rollout.parsed.thought,
            "response": rollout.parsed.response,
            "reference_response": group.example.reference_response,
        }
        for group, group_rewards in zip(groups, rewards, strict=True)
        for place, (rollout, breakdown) in enumerate(zip(group.rollouts, group_rewards, strict=True))
    ]


def _as_text(example: SupportExample) -> str:
    """The conversation so far, a line a turn."""
    return "\n".join(f"{turn.speaker}: {turn.text}" for turn in example.history)


def _append_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
