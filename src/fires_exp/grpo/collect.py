"""Prompts and a policy to groups of completions."""

from __future__ import annotations

from collections.abc import Sequence

from fires_exp.config.model import SamplingConfig
from fires_exp.grpo.rollouts import Rollout, RolloutGroup
from fires_exp.policy.policy import Policy
from fires_exp.policy.sampling import sample_completions, stream_seed
from fires_exp.prompts.processor import EncodedPrompt
from fires_exp.thinking.aspects import ThinkingPlan
from fires_exp.thinking.tags import parse_completion


def collect_rollouts(
    policy: Policy,
    prompts: Sequence[EncodedPrompt],
    sampling: SamplingConfig,
    plan: ThinkingPlan,
    *,
    num_generations: int,
    seed: int,
    step: int,
) -> list[RolloutGroup]:
    """P groups of G completions, none for no prompts. What a prompt gets depends on the policy, the seed, the step and the
    prompt alone."""
    if not prompts:
        return []
    seeds = [[stream_seed(seed, step, prompt.example.id, place) for place in range(num_generations)] for prompt in prompts]
    completions_PG = sample_completions(policy, prompts, sampling, seeds)
    return [
        RolloutGroup(
            prompt=prompt,
            rollouts=tuple(
                Rollout(completion=completion, parsed=parse_completion(completion.text, plan)) for completion in group
            ),
        )
        for prompt, group in zip(prompts, completions_PG, strict=True)
    ]
