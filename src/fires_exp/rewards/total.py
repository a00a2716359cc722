"""Eq. 5: the total reward of a completion, with its parts beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fires_exp.config.schema import RewardConfig
from fires_exp.data.records import SupportExample
from fires_exp.errors import ConfigError
from fires_exp.rewards.parts import (
    SupportSkillScorer,
    consistency_reward,
    diff_epitome,
    format_reward,
    support_skill_reward,
)
from fires_exp.thinking.tags import ParsedCompletion


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
    """Whatever can reward a completion of an instance; `Reward` is the paper's."""

    def score(self, completion: ParsedCompletion, example: SupportExample) -> RewardBreakdown: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Reward:
    """Weights and scorer of Eq. 5."""

    config: RewardConfig
    scorer: SupportSkillScorer | None

    def __post_init__(self) -> None:
        check_reward(self.config, has_scorer=self.scorer is not None)

    def score(self, completion: ParsedCompletion, example: SupportExample) -> RewardBreakdown:
        """r = w^F r^F + w^R r^R + w^DE r^DE if the completion is well-formed, else 0 in total; weights are not normalised.

        A malformed completion's parts are 0 too: nothing of it was rewarded.
        """
        asked = self.scorer is not None
        if not completion.well_formed:
            return RewardBreakdown(total=0.0, format=0.0, consistency=0.0, support_skill=0.0 if asked else None)
        form = format_reward(completion)
        consistency = consistency_reward(completion, example.reference_response)
        total = self.config.format_weight * form + self.config.consistency_weight * consistency
        skill = None
        if self.scorer is not None:
            context = example.last_seeker_text
            reference_levels = self.scorer.levels(context, example.reference_response)
            skill = support_skill_reward(diff_epitome(reference_levels, self.scorer.levels(context, completion.response)))
            total += self.config.support_skill_weight * skill
        return RewardBreakdown(total=total, format=form, consistency=consistency, support_skill=skill)


def check_reward(config: RewardConfig, *, has_scorer: bool) -> None:
    """Raises `ConfigError` where support skill is asked for and nothing scores it."""
    if config.support_skill_weight != 0 and not has_scorer:
        raise ConfigError(
            f"reward={config.name} rewards support skill (support_skill_weight={config.support_skill_weight:g}), which needs "
            "trained EPITOME scorers, and this version has none: choose reward=wo_support_skill"
        )
