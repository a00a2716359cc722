"""Metrics of the rollouts of a GRPO step: rewards by part, form and length of completions, aspects of thoughts."""

from __future__ import annotations

from collections.abc import Sequence

from fires_exp.grpo.advantages import tied_groups
from fires_exp.grpo.batch import RolloutBatch
from fires_exp.metrics.thoughts import aspect_shares
from fires_exp.thinking.thought import parse_thought


def rollout_metrics(batch: RolloutBatch) -> dict[str, float]:
    """Means over the B = P·G completions of a step. Shares of aspects are over well-formed completions."""
    rewards_PG = batch.total_rewards
    rollouts = [rollout for group in batch.groups for rollout in group.rollouts]
    breakdowns = [breakdown for group in batch.rewards for breakdown in group]
    lengths = [len(rollout.completion.ids) for rollout in rollouts]
    thoughts = [parse_thought(rollout.parsed.thought) for rollout in rollouts if rollout.parsed.well_formed]
    metrics = {
        "reward/total": float(rewards_PG.mean()),
        "reward/std_in_group": float(rewards_PG.std(dim=1, correction=0).mean()),
        "rollout/tied_group_share": float(tied_groups(rewards_PG).double().mean()),
        "rollout/well_formed_share": _mean([float(rollout.parsed.well_formed) for rollout in rollouts]),
        "rollout/truncated_share": _mean([float(rollout.completion.finish_reason == "length") for rollout in rollouts]),
        "rollout/completion_tokens": float(sum(lengths)),
        "rollout/completion_tokens_mean": _mean(lengths),
        "rollout/completion_tokens_max": float(max(lengths)),
        "rollout/response_words_mean": _mean([len(rollout.parsed.response.split()) for rollout in rollouts]),
    }
    for part in breakdowns[0].parts:
        metrics[f"reward/{part}"] = _mean([breakdown.parts[part] for breakdown in breakdowns])
    for aspect, shares in aspect_shares(thoughts).items():
        metrics[f"aspect/{aspect.value}"] = 1 - shares["omitted"]
        if shares["unknown"]:
            metrics[f"aspect/{aspect.value}_unknown"] = shares["unknown"]
    return metrics


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
