"""A prompt with its G completions."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fires_exp.data.records import SupportExample
from fires_exp.grpo.rewards import CompletionReward, RewardBreakdown
from fires_exp.policy.completion import Completion
from fires_exp.prompts.processor import EncodedPrompt
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

    def without_pictures(self) -> RolloutGroup:
        """The same for a reader of texts and ids: patches of frames are most of a group's bytes."""
        return replace(self, prompt=replace(self.prompt, pixel_values=self.prompt.pixel_values[:0]))


def score_groups(groups: Sequence[RolloutGroup], reward: CompletionReward) -> list[tuple[RewardBreakdown, ...]]:
    """Eq. 5 for every completion of every group, against the group's own reference; all are scored in one batch. The reward is
    asked even about no groups: of several ranks another may have some."""
    answers = [(rollout.parsed, group.example) for group in groups for rollout in group.rollouts]
    scored = iter(reward.score(answers))
    return [tuple(itertools.islice(scored, len(group.rollouts))) for group in groups]
