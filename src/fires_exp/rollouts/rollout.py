"""A prompt with its G completions."""

from __future__ import annotations

from dataclasses import dataclass

from fires_exp.data.records import SupportExample
from fires_exp.policy.sampling import Completion
from fires_exp.prompts.processor import EncodedPrompt
from fires_exp.rewards.total import CompletionReward, RewardBreakdown
from fires_exp.thinking.tags import ParsedCompletion


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """One completion, read, before it is scored."""

    completion: Completion
    parsed: ParsedCompletion


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutGroup:
    """The G completions of one prompt. A group is a type of its own so that a completion never loses its reference."""

    prompt: EncodedPrompt
    rollouts: tuple[Rollout, ...]

    @property
    def example(self) -> SupportExample:
        return self.prompt.example

    def score(self, reward: CompletionReward) -> tuple[RewardBreakdown, ...]:
        """Eq. 5 for each of the group's completions, against the group's own reference."""
        return tuple(reward.score(rollout.parsed, self.example) for rollout in self.rollouts)
