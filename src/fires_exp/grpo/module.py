"""GRPO training (paper, 3.4.2): sample a group of completions for each prompt and make those with higher rewards more likely."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from fires_exp.config.model import SamplingConfig
from fires_exp.config.training import GrpoConfig, HealthConfig
from fires_exp.distributed import collectives
from fires_exp.errors import TrainingError
from fires_exp.grpo.advantages import group_advantages
from fires_exp.grpo.batch import MicroBatch, RolloutBatch, cut_micro_batches
from fires_exp.grpo.loss import LossSettings, grpo_loss
from fires_exp.grpo.monitoring.collapse import first_collapse, signs_beyond
from fires_exp.grpo.monitoring.health import HealthMonitor
from fires_exp.grpo.monitoring.step_metrics import rollout_metrics
from fires_exp.grpo.rewards import CompletionReward, RewardBreakdown, score_groups
from fires_exp.grpo.rollouts import RolloutGroup, collect_rollouts
from fires_exp.policy.logprobs import CompletionLogprobs, completion_logprobs, group_logprobs
from fires_exp.policy.policy import Policy
from fires_exp.prompts.collate import collate
from fires_exp.prompts.processor import EncodedPrompt
from fires_exp.thinking.aspects import ThinkingPlan
from fires_exp.training.stepped_module import AdapterModule

# before the first update the adapter is zero, so policy and reference are the same model and their KL is a rounding error
FIRST_STEP_KL_LIMIT = 1e-3

# called with the index of the step, from 0, and its rollouts and rewards
LogCompletions = Callable[[int, RolloutBatch], None]


class GrpoModule(AdapterModule):
    """Trains the fresh adapter of a policy. The same model with its adapter disabled is the reference policy.

    In a distributed run each rank samples, rewards and trains on its shard of a step's prompts. Groups and rewards are gathered,
    so all ranks compute the same advantages, metrics and stop decisions; gradients are summed in the optimizer step.
    `log_completions` is called on every rank after every `config.log_completions_every_steps` steps.
    """

    def __init__(
        self,
        policy: Policy,
        config: GrpoConfig,
        sampling: SamplingConfig,
        health: HealthConfig,
        reward: CompletionReward,
        plan: ThinkingPlan,
        *,
        total_updates: int,
        seed: int,
        log_completions: LogCompletions,
    ) -> None:
        super().__init__(policy, config.lora, config.optimizer, total_updates=total_updates, seed=seed)
        self.config = config
        self.sampling = sampling
        self.reward = reward
        self.plan = plan
        self.log_completions = log_completions
        self.reward_executor = ThreadPoolExecutor(1, thread_name_prefix="rewards")
        self.health = HealthMonitor(health)
        self.loss_settings = LossSettings(
            beta=config.beta,
            ratio_level=config.ratio_level,
            aggregation=config.aggregation,
            clip_epsilon_low=config.clip_epsilon_low,
            clip_epsilon_high=config.clip_epsilon_high,
            max_new_tokens=sampling.max_new_tokens,
        )

    def training_step(self, prompts: list[EncodedPrompt], batch_idx: int) -> None:
        """One step of GRPO on this rank's shard of the step's prompts."""
        started = time.perf_counter()
        own_groups = self._collect(prompts)
        sampled = time.perf_counter()
        batch = self._score(own_groups)
        advantages_B = group_advantages(batch.total_rewards, self.config.advantage_std).flatten()
        metrics = self._observe(batch)
        metrics |= self._update(batch, advantages_B.to(self.device))
        metrics |= _speed(metrics, started, sampled, time.perf_counter())
        self._record(batch, metrics)
        self._stop_if_collapsed()

    def _collect(self, prompts: Sequence[EncodedPrompt]) -> list[RolloutGroup]:
        """Sample G completions for each prompt of this rank."""
        return collect_rollouts(
            self.policy,
            [self.policy.encode_images(prompt) for prompt in prompts],
            self.sampling,
            self.plan,
            num_generations=self.config.num_generations,
            seed=self.seed,
            step=self.steps_done,
        )

    def _score(self, own_groups: Sequence[RolloutGroup]) -> RolloutBatch:
        """Eq. 5 for this rank's groups; gather groups and rewards of all ranks. Raises `TrainingError` for a reward that is not
        finite."""
        groups = collectives.gather_items([group.without_images() for group in own_groups])
        micro_batches = cut_micro_batches(
            groups,
            own_groups,
            micro_batch_size=self.config.micro_batch_size,
            settings=self.loss_settings,
            device=self.device,
        )
        rewards = collectives.gather_items(self._rewards(own_groups, micro_batches))
        batch = RolloutBatch(groups=tuple(groups), rewards=tuple(rewards), micro_batches=micro_batches)
        for group, rewards_G in zip(batch.groups, batch.total_rewards, strict=True):
            self.check_finite(rewards_G, "a reward", [group.example.id])
        return batch

    def _rewards(
        self, own_groups: Sequence[RolloutGroup], micro_batches: Sequence[MicroBatch]
    ) -> list[tuple[RewardBreakdown, ...]]:
        """Rewards of this rank's groups. With `overlap_rewards` they are computed in a thread while the reference policy scores
        the micro-batches, which needs no rewards."""
        if not self.config.overlap_rewards:
            rewards = score_groups(own_groups, self.reward)
            self._set_reference_logprobs(micro_batches)
            return rewards
        future = self.reward_executor.submit(score_groups, own_groups, self.reward)
        self._set_reference_logprobs(micro_batches)
        return future.result()

    def _set_reference_logprobs(self, micro_batches: Sequence[MicroBatch]) -> None:
        if self.config.beta > 0:
            with self.policy.as_reference():
                for micro_batch in micro_batches:
                    micro_batch.ref_logprobs_BC = self._logprobs(micro_batch, recompute=False).logprobs_BC

    def _logprobs(self, micro_batch: MicroBatch, *, recompute: bool) -> CompletionLogprobs:
        """Log-probabilities of a micro-batch under the current policy. The native pass encodes the shared prompt once;
        `grpo.scoring=transformers` encodes it with every completion."""
        temperature = self.sampling.temperature
        if self.config.scoring == "native":
            return group_logprobs(self.policy, micro_batch.prompt, micro_batch.completion_ids, temperature, recompute=recompute)
        prompts = [micro_batch.prompt] * len(micro_batch.completion_ids)
        inputs = collate(prompts, micro_batch.completion_ids, pad_id=self.policy.pad_id).to(self.device)
        return completion_logprobs(self.policy, inputs, temperature)

    def _observe(self, batch: RolloutBatch) -> dict[str, float]:
        """Metrics of the rollouts and rewards, and signs of reward hacking."""
        parsed = [(group.example, [rollout.parsed for rollout in group.rollouts]) for group in batch.groups]
        return rollout_metrics(batch) | self.health.observe(parsed)

    def _update(self, batch: RolloutBatch, advantages_B: Tensor) -> dict[str, float]:
        """Eq. 2-3: `updates_per_rollout` optimizer steps on the same rollouts; the metrics of the last one."""
        learning_rate = self.learning_rate
        metrics: dict[str, float] = {}
        for update in range(self.config.updates_per_rollout):
            metrics |= self._update_once(batch, advantages_B, is_first=update == 0)
        return metrics | {"grpo/learning_rate": learning_rate}

    def _update_once(self, batch: RolloutBatch, advantages_B: Tensor, *, is_first: bool) -> dict[str, float]:
        """One optimizer step. The first update also sets the old log-probabilities of the micro-batches."""
        sums = {"loss": 0.0, "kl": 0.0, "clipped": 0.0, "entropy": 0.0, "sampling_gap": 0.0}
        ratio_gap = 0.0
        for micro_batch in batch.micro_batches:
            advantages = advantages_B[micro_batch.rows]
            needs_gradient = self._has_gradient(advantages)
            with torch.set_grad_enabled(needs_gradient):
                scored = self._logprobs(micro_batch, recompute=needs_gradient and self.config.gradient_checkpointing)
            if micro_batch.old_logprobs_BC is None:
                # the optimizer steps after all micro-batches, so these are still the log-probabilities of the old policy
                micro_batch.old_logprobs_BC = scored.logprobs_BC.detach()
            terms = grpo_loss(
                scored.logprobs_BC,
                old_logprobs_BC=micro_batch.old_logprobs_BC,
                ref_logprobs_BC=micro_batch.ref_logprobs_BC,
                advantages_B=advantages,
                mask_BC=micro_batch.mask_BC,
                weights_BC=micro_batch.weights_BC,
                batch_size=batch.size,
                settings=self.loss_settings,
            )
            self.check_finite(terms.loss, "the loss", batch.own_example_ids)
            if needs_gradient:
                self.manual_backward(terms.loss)
            sums["loss"] += float(terms.loss.detach())
            sums["kl"] += float(terms.kl_sum)
            sums["clipped"] += float(terms.clipped_sum)
            sums["entropy"] += float(scored.entropy_BC.sum())
            sums["sampling_gap"] += float((scored.logprobs_BC.detach() - micro_batch.sampled_logprobs_BC).abs().sum())
            ratio_gap = max(ratio_gap, float(terms.largest_ratio_gap))
        sums = dict(zip(sums, collectives.all_sum(*sums.values()), strict=True))
        ratio_gap = max(collectives.all_gather(ratio_gap))
        if is_first and self.steps_done == 0:
            _check_first_step(sums["kl"] / batch.token_count)
        self._fill_missing_gradients()
        grad_norm = self.manual_optimizer_step(batch.own_example_ids)
        metrics: dict[str, float] = {}
        if is_first:  # later the policy is no longer the one that sampled
            metrics["grpo/sampling_logprob_gap"] = sums["sampling_gap"] / batch.token_count
        if self.config.beta > 0:  # otherwise the reference log-probabilities, and with them the KL, are unknown
            metrics["grpo/kl"] = sums["kl"] / batch.token_count
        return metrics | {
            "grpo/loss": sums["loss"],
            "grpo/clip_share": sums["clipped"] / batch.token_count,
            "grpo/entropy": sums["entropy"] / batch.token_count,
            "grpo/largest_ratio_gap": ratio_gap,
            "grpo/grad_norm": grad_norm,
        }

    def _has_gradient(self, advantages_B: Tensor) -> bool:
        """False if the gradient of a micro-batch is exactly zero: all its advantages are zero and there is no KL term. With
        `skip_tied_groups` false, always True."""
        return not self.config.skip_tied_groups or self.config.beta > 0 or bool(advantages_B.any())

    def _fill_missing_gradients(self) -> None:
        """Set missing gradients to zero. AdamW skips a parameter without a gradient, but moves one whose gradient is zero by its
        momentum."""
        for parameter in self.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def _record(self, batch: RolloutBatch, metrics: dict[str, float]) -> None:
        """Count the step as done and log it."""
        if self.steps_done % self.config.log_completions_every_steps == 0:
            self.log_completions(self.steps_done, batch)
        self.steps_done += 1
        self.record(metrics)
        self.log("reward", metrics["reward/total"], prog_bar=True, logger=False, batch_size=len(batch.groups))

    def _stop_if_collapsed(self) -> None:
        """Apply the stop rule to the latest steps; earlier ones were checked when they were done."""
        stop = self.health.config.stop
        self.stopped_early = first_collapse(self.health.history[-stop.patience_steps :], stop) is not None
        self.trainer.should_stop |= self.stopped_early

    @property
    def has_collapse_sign(self) -> bool:
        return bool(signs_beyond(self.health.history[-1], self.health.config.stop))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["health"] = self.health.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.health.restore(checkpoint["health"])


def _speed(metrics: dict[str, float], started: float, sampled: float, finished: float) -> dict[str, float]:
    return {
        "speed/sampling_seconds": sampled - started,
        "speed/training_seconds": finished - sampled,
        "speed/completion_tokens_per_second": metrics["rollout/completion_tokens"] / (finished - started),
    }


def _check_first_step(kl: float) -> None:
    if kl > FIRST_STEP_KL_LIMIT:
        raise TrainingError(
            f"GRPO: before the first update the KL of the policy from its reference is {kl:.2g}, not 0: the adapter is not fresh"
        )
