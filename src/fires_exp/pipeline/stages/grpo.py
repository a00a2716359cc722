"""GRPO as a stage: the policy of the cold start in, a new adapter out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from fires_exp.config.model import SamplingConfig
from fires_exp.config.root import Config
from fires_exp.config.scoring import RewardConfig
from fires_exp.config.training import GrpoConfig, HealthConfig, LoggerConfig
from fires_exp.data.instances import Instances
from fires_exp.data.records import SupportExample
from fires_exp.distributed import collectives
from fires_exp.errors import CollapseError
from fires_exp.grpo.batch import RolloutBatch
from fires_exp.grpo.module import GrpoModule
from fires_exp.grpo.monitoring.collapse import first_collapse
from fires_exp.grpo.rewards import Reward
from fires_exp.pipeline.chat_models import check_service
from fires_exp.pipeline.judge import describe_judge_requests, judge_identity, reference_judge
from fires_exp.pipeline.planner import Planner
from fires_exp.pipeline.preflight.disk import samples_bytes, training_bytes
from fires_exp.pipeline.preflight.memory import MemoryEstimate, grpo_memory
from fires_exp.pipeline.preflight.sizes import Sizes
from fires_exp.pipeline.preflight.stage_estimate import StageEstimate, steps_left
from fires_exp.pipeline.preflight.token_lengths import TokenLengths
from fires_exp.pipeline.stage import Stage
from fires_exp.pipeline.stages.epitome import SupportScorer, plan_scorer
from fires_exp.pipeline.stages.sft import SftStage
from fires_exp.policy.factory import PolicyFactory
from fires_exp.storage.files import complete_lines
from fires_exp.training.checkpoints import checkpointed_steps
from fires_exp.training.fit import ADAPTER, COMPLETIONS, METRICS, TrainingLoop, fresh_adapter, keep_steps, training_plan
from fires_exp.training.loggers.factory import log_completions
from fires_exp.training.step_loader import StepLoader


@dataclass(frozen=True, kw_only=True, eq=False)
class GrpoStage(Stage):
    """GRPO's adapter on the merged cold start, or on the untuned backbone (w/o SFT). `scorer` is None where the reward has no
    support-skill part."""

    name: ClassVar[str] = "grpo"
    on_all_ranks: ClassVar[bool] = True
    logs_steps: ClassVar[bool] = True
    reads_frames: ClassVar[bool] = True
    memory_settings: ClassVar[tuple[str, ...]] = (
        "grpo.micro_batch_size", "grpo.gradient_checkpointing", "grpo.batch_size", "grpo.num_generations",
        "sampling.max_new_tokens", "prompt.max_tokens",
    )  # fmt: skip

    config: GrpoConfig
    sampling: SamplingConfig
    health: HealthConfig
    reward: RewardConfig
    train: Instances
    sft: SftStage | None
    scorer: SupportScorer | None
    factory: PolicyFactory
    loop: TrainingLoop
    logger: LoggerConfig
    seed: int
    prefetch_steps: int

    @classmethod
    def plan(cls, planner: Planner) -> None:
        config = planner.config
        sft = planner.find(SftStage)
        stage = planner.add(
            cls(
                artifacts=planner.artifacts,
                config=config.grpo,
                sampling=config.sampling,
                health=config.health,
                reward=config.reward,
                train=planner.train,
                sft=sft,
                scorer=plan_scorer(planner) if config.reward.support_skill_weight > 0 else None,
                factory=planner.factory,
                loop=planner.loop,
                logger=config.logger,
                seed=config.seed,
                prefetch_steps=config.trainer.prefetch_steps,
            )
        )
        planner.adapters["grpo"] = (sft, stage) if sft else (stage,)

    @property
    def needs(self) -> tuple[Stage, ...]:
        scorer = self.scorer.stage if self.scorer else None
        return tuple(stage for stage in (self.sft, scorer) if stage is not None)

    def key_inputs(self) -> dict[str, Any]:
        settings, reward, health = asdict(self.config), asdict(self.reward), asdict(self.health)
        del settings["checkpoint_every_steps"], settings["log_completions_every_steps"], settings["overlap_rewards"]
        del reward["support_skill"], reward["judge"]
        del health["name"], health["stop"]  # a stopped run continues in its folder when the rule is relaxed
        return {
            **self.factory.key_inputs(),
            "seed": self.seed,
            "train": self.train.identity(with_frames=self.factory.frames.name != "none"),
            "grpo": settings,
            "sampling": asdict(self.sampling),
            "reward": reward,
            "scorer": self.scorer.version if self.scorer else None,
            "judge": judge_identity(self.reward),
            "health": health,
        }

    def check(self) -> None:
        if self.reward.judge_weight > 0:
            check_service(self.reward.judge)

    @property
    def is_dry_run(self) -> bool:
        return not self.reward.judge.sends

    def dry_run(self) -> str:
        return describe_judge_requests(self.artifacts, self.reward.judge, self.config, self.train, self.seed)

    def build(self, folder: Path) -> None:
        """Raises `CollapseError` where `health.stop` ends the training."""
        check_health(folder, self.health)
        policy = self.factory.build([self.sft.folder / ADAPTER] if self.sft else [])
        fresh_adapter(policy, self.config, self.seed)
        examples = self.train.examples
        encode = self.factory.encoder(policy.processor, self.train.video_root, examples)
        plan = training_plan(self.config, len(examples), self.seed)
        if collectives.is_main():
            keep_steps(folder / COMPLETIONS, checkpointed_steps(folder))

        @collectives.main_rank_only
        def log_batch(step: int, batch: RolloutBatch) -> None:
            rows = completion_rows(step, batch)
            _append_rows(folder / COMPLETIONS, rows)
            log_completions(module.loggers, self.logger, rows, step)

        module = GrpoModule(
            policy,
            self.config,
            self.sampling,
            self.health,
            Reward(
                config=self.reward,
                scorer=self.scorer.load() if self.scorer else None,
                judge=reference_judge(self.artifacts, self.reward, folder),
            ),
            self.factory.plan,
            total_updates=len(plan) * self.config.updates_per_rollout,
            seed=self.seed,
            log_completions=log_batch,
        )
        loader = StepLoader(plan, lambda index: encode(examples[index]), prefetch=self.prefetch_steps)
        self.loop.fit(module, loader, folder, stage=self.name, checkpoint_every_steps=self.config.checkpoint_every_steps)
        check_health(folder, self.health)

    def verify(self) -> None:
        """Raises `CollapseError` where `health.stop` would have ended the training of a finished artifact."""
        check_health(self.folder, self.health)

    def estimate(self, sizes: Sizes) -> StageEstimate:
        done = checkpointed_steps(self.folder)
        steps, prompts = steps_left(self.config, len(self.train), done)
        completions = prompts * self.config.num_generations
        tokens = completions * self.sampling.max_new_tokens
        training = training_bytes(
            sizes.trained_parameters(self.config.lora), checkpoints=self.loop.trainer.keep_checkpoints, steps=steps
        )
        return StageEstimate(
            steps=steps,
            steps_done=done,
            prompts=prompts,
            prompt_tokens=round(prompts * self._lengths(sizes).mean_prompt),
            completion_tokens=tokens,
            disk=training + samples_bytes(completions, tokens, every_steps=self.config.log_completions_every_steps),
        )

    def memory(self, config: Config, sizes: Sizes) -> MemoryEstimate:
        return grpo_memory(sizes.hardware, config, self._lengths(sizes))

    def _lengths(self, sizes: Sizes) -> TokenLengths:
        return sizes.measure(self.train, lambda _: self.sampling.max_new_tokens)


def check_health(folder: Path, config: HealthConfig) -> None:
    """Raises `CollapseError` where the stop rule ends a run with the steps that the folder's `metrics.jsonl` holds."""
    rows = [json.loads(line) for line in complete_lines(folder / METRICS)]
    collapse = first_collapse(rows, config.stop)
    if collapse is None:
        return
    steps = checkpointed_steps(folder)
    relax = f"relax health.stop.{collapse.sign}"
    if (folder / ADAPTER).is_dir():
        state, remedy = (
            f"all {len(rows)} steps were trained without this rule, their adapter is in {folder}",
            f"{relax} to use it",
        )
    elif steps:
        state, remedy = f"the checkpoint of step {steps}, before the sign, is kept in {folder}", f"{relax} to continue from it"
    else:
        state, remedy = "no checkpoint is from before the sign", f"{relax} to start again"
    raise CollapseError(
        f"grpo stopped, a sign of reward hacking: {collapse}; {state}. "
        f"Raise grpo.beta or lower grpo.optimizer.learning_rate in a new run, or {remedy}",
        folder,
    )


def completion_rows(step: int, batch: RolloutBatch) -> list[dict[str, Any]]:
    """A step's completions with their rewards by part, one row each."""
    return [
        {
            "step": step,
            "example_id": group.example.id,
            "place": index,
            "reward": breakdown.total,
            **{f"reward_{name}": value for name, value in breakdown.parts.items()},
            "finish_reason": rollout.completion.finish_reason,
            "prompt": _as_text(group.example),
            "completion": rollout.completion.text,
            "thought": rollout.parsed.thought,
            "response": rollout.parsed.response,
            "reference_response": group.example.reference_response,
        }
        for group, group_rewards in zip(batch.groups, batch.rewards, strict=True)
        for index, (rollout, breakdown) in enumerate(zip(group.rollouts, group_rewards, strict=True))
    ]


def _as_text(example: SupportExample) -> str:
    """The conversation so far, a line a turn."""
    return "\n".join(f"{turn.speaker}: {turn.text}" for turn in example.history)


def _append_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
