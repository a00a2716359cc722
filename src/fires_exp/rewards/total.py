"""Eq. 5: the total reward of a completion, with its parts beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fires_exp.config.schema import RewardConfig
from fires_exp.data.records import SupportExample
from fires_exp.errors import ConfigError
from fires_exp.rewards.parts import consistency_reward, format_reward, support_skill_reward
from fires_exp.scores.epitome.levels import SupportSkillScorer
from fires_exp.thinking.tags import ParsedCompletion

# a completion, read, and the instance that it answers
Answer = tuple[ParsedCompletion, SupportExample]


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardBreakdown:
    """`total` is what GRPO sees; the parts are unweighted. `support_skill` is None where it was not asked for.

    >>> RewardBreakdown(total=0.4, format=1.0, consistency=0.3, support_skill=None).total
    0.4
    """

    total: float
    format: float
    consistency: float
    support_skill: float | None

    @property
    def parts(self) -> dict[str, float]:
        """The parts that were computed, by name."""
        parts = {"format": self.format, "consistency": self.consistency, "support_skill": self.support_skill}
        return {name: part for name, part in parts.items() if part is not None}


class CompletionReward(Protocol):
    """Whatever can reward completions of instances; `Reward` is the paper's."""

    def score(self, answers: Sequence[Answer]) -> list[RewardBreakdown]:
        """A breakdown for each answer, in order; none depends on the others."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Reward:
    """Weights and scorer of Eq. 5."""

    config: RewardConfig
    scorer: SupportSkillScorer | None

    def __post_init__(self) -> None:
        check_reward(self.config, has_scorer=self.scorer is not None)

    def score(self, answers: Sequence[Answer]) -> list[RewardBreakdown]:
        """r = w^F r^F + w^R r^R + w^DE r^DE if the completion is well-formed, else 0 in total; weights are not normalised.

        A malformed completion's parts are 0 too: nothing of it was rewarded.
        """
        well_formed = [(completion, example) for completion, example in answers if completion.well_formed]
        skills = iter(self._support_skill(well_formed))
        return [
            self._total(completion, example, next(skills)) if completion.well_formed else self._nothing
            for completion, example in answers
        ]

    def _support_skill(self, answers: Sequence[Answer]) -> list[float | None]:
        """r^DE of each answer; responses and references are read in one batch."""
        if self.scorer is None:
            return [None] * len(answers)
        responses = [(example.last_seeker_text, completion.response) for completion, example in answers]
        references = [(example.last_seeker_text, example.reference_response) for _, example in answers]
        levels = self.scorer.levels([*references, *responses])
        return [
            support_skill_reward(reference, response)
            for reference, response in zip(levels[: len(answers)], levels[len(answers) :], strict=True)
        ]

    def _total(self, completion: ParsedCompletion, example: SupportExample, skill: float | None) -> RewardBreakdown:
        form = format_reward(completion)
        consistency = consistency_reward(completion, example.reference_response)
        total = self.config.format_weight * form + self.config.consistency_weight * consistency
        if skill is not None:
            total += self.config.support_skill_weight * skill
        return RewardBreakdown(total=total, format=form, consistency=consistency, support_skill=skill)

    @property
    def _nothing(self) -> RewardBreakdown:
        skill = None if self.scorer is None else 0.0
        return RewardBreakdown(total=0.0, format=0.0, consistency=0.0, support_skill=skill)


def check_reward(config: RewardConfig, *, has_scorer: bool) -> None:
    """Raises `ConfigError` where support skill is asked for and nothing scores it."""
    if config.support_skill_weight != 0 and not has_scorer:
        raise ConfigError(
            f"reward={config.name} rewards support skill (support_skill_weight={config.support_skill_weight:g}), which needs "
            "a scorer of EPITOME levels: give one, or choose reward=wo_support_skill"
        )
