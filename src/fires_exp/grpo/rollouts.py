"""Rollouts: G sampled completions for each of P prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fires_exp.config.model import SamplingConfig
from fires_exp.data.records import SupportExample
from fires_exp.policy.completion import Completion
from fires_exp.policy.policy import Policy
from fires_exp.policy.sampling import sample_completions, stream_seed
from fires_exp.prompts.processor import EncodedPrompt
from fires_exp.thinking.aspects import ThinkingPlan
from fires_exp.thinking.tags import ParsedCompletion, parse_completion


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """One sampled completion with its parsed thought and response, not yet scored."""

    completion: Completion
    parsed: ParsedCompletion


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutGroup:
    """One prompt with its G rollouts. The prompt carries its example, so every completion keeps its own reference response.

    A group with G = 2, the second completion malformed:

        RolloutGroup(
            prompt=EncodedPrompt(example=SupportExample(id="mesc-12-3", …), prompt_ids=<[T] ids>, pixel_values=<patches>, …),
            rollouts=(
                Rollout(
                    completion=Completion(
                        text="<think>\\nEmotion: fear\\n</think>\\n<response>I am here.</response>",
                        ids=<[C] ids>, logprobs=<[C]>, finish_reason="stop",
                    ),
                    parsed=ParsedCompletion(thought="Emotion: fear", response="I am here.", well_formed=True),
                ),
                Rollout(
                    completion=Completion(text="<think>\\nEmotion: fear and", …, finish_reason="length"),
                    parsed=ParsedCompletion(thought="Emotion: fear and", response="", well_formed=False),
                ),
            ),
        )
    """

    prompt: EncodedPrompt
    rollouts: tuple[Rollout, ...]

    @property
    def example(self) -> SupportExample:
        return self.prompt.example

    def without_images(self) -> RolloutGroup:
        """A copy with no image patches, which are most of a group's bytes: enough to score and log, cheap to send to ranks."""
        return replace(self, prompt=replace(self.prompt, pixel_values=self.prompt.pixel_values[:0]))


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
    """Sample `num_generations` completions for each prompt: P groups of G, in the order of the prompts.

    Every completion has its own random stream, derived from the seed, the step, the prompt's example and its index in the group.
    So a group does not depend on the other prompts, on the batch size or on the number of ranks.
    """
    if not prompts:
        return []
    seeds = [[stream_seed(seed, step, prompt.example.id, index) for index in range(num_generations)] for prompt in prompts]
    completions_PG = sample_completions(policy, prompts, sampling, seeds)
    return [
        RolloutGroup(
            prompt=prompt,
            rollouts=tuple(
                Rollout(completion=completion, parsed=parse_completion(completion.text, plan)) for completion in completions_G
            ),
        )
        for prompt, completions_G in zip(prompts, completions_PG, strict=True)
    ]
