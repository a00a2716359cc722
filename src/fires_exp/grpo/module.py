"""GRPO: sample a group of completions for each prompt, reward them, make the better ones more likely (paper, 3.4.2)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fires_exp.config.model import SamplingConfig
from fires_exp.config.training import GrpoConfig, HealthConfig
from fires_exp.distributed import collectives
from fires_exp.errors import TrainingError
from fires_exp.grpo.advantages import group_advantages
from fires_exp.grpo.collect import collect_rollouts
from fires_exp.grpo.loss import Objective, grpo_loss, token_weights
from fires_exp.grpo.monitoring.collapse import first_collapse, signs_beyond
from fires_exp.grpo.monitoring.health import HealthMonitor
from fires_exp.grpo.monitoring.step_metrics import rollout_metrics
from fires_exp.grpo.rewards import CompletionReward, RewardBreakdown
from fires_exp.grpo.rollouts import RolloutGroup, score_groups
from fires_exp.policy.logprobs import CompletionLogprobs, completion_logprobs, group_logprobs
from fires_exp.policy.policy import Policy
from fires_exp.prompts.collate import collate, lengths_mask
from fires_exp.prompts.processor import EncodedPrompt
from fires_exp.thinking.aspects import ThinkingPlan
from fires_exp.training.stepped_module import AdapterModule, chunks

# at the first step the adapter is zero, so policy and reference are one model: what differs is rounding, or a wrong set-up
FIRST_STEP_KL_LIMIT = 1e-3

ShowCompletions = Callable[[int, Sequence[RolloutGroup], Sequence[Sequence[RewardBreakdown]]], None]


@dataclass(slots=True)
class MicroBatch:
    """Completions of one prompt, `rows` of the whole batch, and what they are held against; the first update fills in old
    log-probabilities."""

    rows: slice
    prompt: EncodedPrompt
    completion_ids: list[Tensor]
    mask_BC: Tensor
    sampled_logprobs_BC: Tensor
    weights_BC: Tensor
    old_logprobs_BC: Tensor | None = None
    ref_logprobs_BC: Tensor | None = None


class GrpoModule(AdapterModule):
    """Trains the policy's fresh adapter; with the adapter off the model is the reference policy."""

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
        show_completions: ShowCompletions,
    ) -> None:
        super().__init__(policy, config.lora, config.optimizer, total_updates=total_updates, seed=seed)
        self.config = config
        self.sampling = sampling
        self.reward = reward
        self.plan = plan
        self.show_completions = show_completions
        self.beside = ThreadPoolExecutor(1, thread_name_prefix="rewards")
        self.health = HealthMonitor(health)
        self.objective = Objective(
            beta=config.beta,
            ratio_level=config.ratio_level,
            aggregation=config.aggregation,
            clip_epsilon_low=config.clip_epsilon_low,
            clip_epsilon_high=config.clip_epsilon_high,
            max_new_tokens=sampling.max_new_tokens,
        )

    def training_step(self, batch: list[EncodedPrompt], batch_idx: int) -> None:
        started = time.perf_counter()
        own = collect_rollouts(
            self.policy,
            [self.policy.encode_images(prompt) for prompt in batch],
            self.sampling,
            self.plan,
            num_generations=self.config.num_generations,
            seed=self.seed,
            step=self.steps_done,
        )
        sampled = time.perf_counter()
        # all ranks see the whole step, so that each knows the counts it divides by and all log and judge the same numbers
        groups = collectives.joined([group.without_pictures() for group in own])
        micro_batches = self._micro_batches(own, groups)
        rewards = collectives.joined(self._rewards(own, micro_batches))
        rewards_PG = torch.tensor([[part.total for part in group] for group in rewards], dtype=torch.float64)
        for group, rewards_G in zip(groups, rewards_PG, strict=True):
            self.check_finite(rewards_G, "a reward", [group.example.id])
        advantages_B = group_advantages(rewards_PG, self.config.advantage_std).flatten()
        metrics = rollout_metrics(groups, rewards, rewards_PG)
        metrics |= self.health.observe([(group.example, [one.parsed for one in group.rollouts]) for group in groups])
        names = [prompt.example.id for prompt in batch]
        rate = self.learning_rate
        for update in range(self.config.updates_per_rollout):
            metrics |= self._update(micro_batches, advantages_B.to(self.device), names, first=update == 0)
        finished = time.perf_counter()
        if self.steps_done % self.config.log_completions_every_steps == 0:
            self.show_completions(self.steps_done, groups, rewards)
        self.steps_done += 1
        tokens = metrics["rollout/completion_tokens"]
        metrics |= {
            "grpo/learning_rate": rate,
            "speed/sampling_seconds": sampled - started,
            "speed/training_seconds": finished - sampled,
            "speed/completion_tokens_per_second": tokens / (finished - started),
        }
        self.record(metrics)
        self.log("reward", metrics["reward/total"], prog_bar=True, logger=False, batch_size=len(batch))
        stop = self.health.config.stop  # earlier steps were judged when they were done
        self.stopped_early = first_collapse(self.health.history[-stop.patience_steps :], stop) is not None
        self.trainer.should_stop |= self.stopped_early

    @property
    def shows_a_sign(self) -> bool:
        return bool(signs_beyond(self.health.history[-1], self.health.config.stop))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["health"] = self.health.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.health.restore(checkpoint["health"])

    def _micro_batches(self, own: Sequence[RolloutGroup], groups: Sequence[RolloutGroup]) -> list[MicroBatch]:
        """This rank's completions in pieces of `micro_batch_size` of a group; weights are those of the whole batch of B = P·G."""
        completions = [rollout.completion for group in groups for rollout in group.rollouts]
        mask_BC = lengths_mask([len(completion.ids) for completion in completions])
        weights_BC = token_weights(mask_BC, self.objective)
        sampled_BC = pad_sequence([completion.logprobs for completion in completions], batch_first=True)
        micro_batches = []
        for p, group in zip(collectives.share(range(len(groups))), own, strict=True):
            first = p * len(group.rollouts)
            for places in chunks(range(first, first + len(group.rollouts)), self.config.micro_batch_size):
                rows = slice(places[0], places[-1] + 1)
                ids = [completion.ids for completion in completions[rows]]
                width = max(len(one) for one in ids)
                micro_batches.append(
                    MicroBatch(
                        rows=rows,
                        prompt=group.prompt,
                        completion_ids=ids,
                        mask_BC=mask_BC[rows, :width].to(self.device),
                        sampled_logprobs_BC=sampled_BC[rows, :width].to(self.device),
                        weights_BC=weights_BC[rows, :width].to(self.device),
                    )
                )
        return micro_batches

    def _rewards(self, own: Sequence[RolloutGroup], micro_batches: Sequence[MicroBatch]) -> list[tuple[RewardBreakdown, ...]]:
        """Eq. 5 of this rank's groups. The reference needs no rewards, so it scores the micro-batches meanwhile."""
        if not self.config.overlap_rewards:
            rewards = score_groups(own, self.reward)
            self._ask_reference(micro_batches)
            return rewards
        rewarding = self.beside.submit(score_groups, own, self.reward)
        self._ask_reference(micro_batches)
        return rewarding.result()

    def _ask_reference(self, micro_batches: Sequence[MicroBatch]) -> None:
        if self.config.beta > 0:
            with self.policy.as_reference():
                for micro in micro_batches:
                    micro.ref_logprobs_BC = self._score(micro, recompute=False).logprobs_BC

    def _score(self, micro: MicroBatch, *, recompute: bool) -> CompletionLogprobs:
        """Log-probabilities of a micro-batch, the prompt read once for it unless `grpo.scoring` says otherwise."""
        temperature = self.sampling.temperature
        if self.config.scoring == "native":
            return group_logprobs(self.policy, micro.prompt, micro.completion_ids, temperature, recompute=recompute)
        prompts = [micro.prompt] * len(micro.completion_ids)
        inputs = collate(prompts, micro.completion_ids, pad_id=self.policy.pad_id).to(self.device)
        return completion_logprobs(self.policy, inputs, temperature)

    def _update(
        self, micro_batches: Sequence[MicroBatch], advantages_B: Tensor, names: Sequence[str], *, first: bool
    ) -> dict[str, float]:
        """One optimizer step on the rollouts; the first pass also fixes what the policy was."""
        batch_size, tokens = collectives.total(
            sum(len(micro.completion_ids) for micro in micro_batches), sum(int(micro.mask_BC.sum()) for micro in micro_batches)
        )
        sums = {"loss": 0.0, "kl": 0.0, "clipped": 0.0, "entropy": 0.0, "gap": 0.0}
        ratio_gap = 0.0
        for micro in micro_batches:
            advantages = advantages_B[micro.rows]
            learns = self._learns(advantages)
            with torch.set_grad_enabled(learns):
                scored = self._score(micro, recompute=learns and self.config.gradient_checkpointing)
            if micro.old_logprobs_BC is None:
                # the optimizer steps after all micro-batches, so the first update's own scores are the old policy's
                micro.old_logprobs_BC = scored.logprobs_BC.detach()
            terms = grpo_loss(
                scored.logprobs_BC,
                old_logprobs_BC=micro.old_logprobs_BC,
                ref_logprobs_BC=micro.ref_logprobs_BC,
                advantages_B=advantages,
                mask_BC=micro.mask_BC,
                weights_BC=micro.weights_BC,
                batch_size=int(batch_size),
                objective=self.objective,
            )
            self.check_finite(terms.loss, "the loss", names)
            if learns:
                self.manual_backward(terms.loss)
            sums["loss"] += float(terms.loss.detach())
            sums["kl"] += float(terms.kl_sum)
            sums["clipped"] += float(terms.clipped_sum)
            sums["entropy"] += float(scored.entropy_BC.sum())
            sums["gap"] += float((scored.logprobs_BC.detach() - micro.sampled_logprobs_BC).abs().sum())
            ratio_gap = max(ratio_gap, float(terms.largest_ratio_gap))
        sums = dict(zip(sums, collectives.total(*sums.values()), strict=True))
        ratio_gap = max(collectives.gather(ratio_gap))
        if first and self.steps_done == 0:
            self._check_first_step(sums["kl"] / tokens)
        self._complete_gradients()
        norm = self.optimizer_step_by_hand(names)
        # only before the first update is the policy that scores the one that sampled
        extra = {"grpo/sampling_logprob_gap": sums["gap"] / tokens} if first else {}
        if self.config.beta > 0:  # without the term the reference is not asked, and a KL of 0 would be a lie
            extra["grpo/kl"] = sums["kl"] / tokens
        return extra | {
            "grpo/loss": sums["loss"],
            "grpo/clip_share": sums["clipped"] / tokens,
            "grpo/entropy": sums["entropy"] / tokens,
            "grpo/largest_ratio_gap": ratio_gap,
            "grpo/grad_norm": norm,
        }

    def _learns(self, advantages_B: Tensor) -> bool:
        """Whether a micro-batch has a gradient: with neither advantages nor a KL term it is exactly zero."""
        return not self.config.skip_tied_groups or self.config.beta > 0 or bool(advantages_B.any())

    def _complete_gradients(self) -> None:
        """A zero gradient is not a missing one: AdamW's momentum moves weights by it all the same."""
        for parameter in self.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def _check_first_step(self, kl: float) -> None:
        if kl > FIRST_STEP_KL_LIMIT:
            raise TrainingError(
                f"before the first update the policy already differs from its reference (KL {kl:.2g}): not a fresh adapter"
            )
