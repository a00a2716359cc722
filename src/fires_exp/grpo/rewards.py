"""Eq. 5: the total reward of a completion, with its parts beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fires_exp.config.scoring import RewardConfig
from fires_exp.data.records import SupportExample
from fires_exp.errors import ConfigError
from fires_exp.grpo.reward_parts import consistency_reward, format_reward, support_skill_reward
from fires_exp.scores.epitome.levels import SupportSkillScorer
from fires_exp.thinking.tags import ParsedCompletion

# a completion, read, and the instance that it answers
Answer = tuple[ParsedCompletion, SupportExample]


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardBreakdown:
    """`total` is what GRPO sees; the parts are unweighted. `support_skill` and `judge` are None where they were not asked for.

    >>> RewardBreakdown(total=0.4, format=1.0, consistency=0.3, support_skill=None, judge=None).total
    0.4
    """

    total: float
    format: float
    consistency: float
    support_skill: float | None
    judge: float | None

    @property
    def parts(self) -> dict[str, float]:
        """The parts that were computed, by name."""
        parts = {
            "format": self.format,
            "consistency": self.consistency,
            "support_skill": self.support_skill,
            "judge": self.judge,
        }
        return {name: part for name, part in parts.items() if part is not None}


class CompletionReward(Protocol):
    """Whatever can reward completions of instances; `Reward` is the paper's."""

    def score(self, answers: Sequence[Answer]) -> list[RewardBreakdown]:
        """A breakdown for each answer, in order; none depends on the others."""
        ...


class ResponseJudge(Protocol):
    """Whoever compares responses with the reference; `scores.judge.ReferenceJudge` does."""

    def scores(self, answers: Sequence[tuple[SupportExample, str]]) -> list[float]:
        """For each response 1 if it is better than its reference, 0 if worse, in order."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Reward:
    """Weights, scorer and judge of Eq. 5, which we give a fourth part."""

    config: RewardConfig
    scorer: SupportSkillScorer | None
    judge: ResponseJudge | None

    def __post_init__(self) -> None:
        check_reward(self.config, has_scorer=self.scorer is not None, has_judge=self.judge is not None)

    def score(self, answers: Sequence[Answer]) -> list[RewardBreakdown]:
        """r = w^F r^F + w^R r^R + w^DE r^DE + w^J r^J if the completion is well-formed, else 0 in total; weights are not
        normalized. r^J, which the paper has not, is the judge's.

        A malformed completion's parts are 0 too: nothing of it was rewarded.
        """
        well_formed = [(completion, example) for completion, example in answers if completion.well_formed]
        skills = iter(self._support_skill(well_formed))
        judged = iter(self._judged(well_formed))
        return [
            self._total(completion, example, next(skills), next(judged)) if completion.well_formed else self._nothing
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

    def _judged(self, answers: Sequence[Answer]) -> Sequence[float | None]:
        """r^J of each answer. The judge is asked even where there is none: of several ranks another may have some."""
        if self.judge is None:
            return [None] * len(answers)
        return self.judge.scores([(example, completion.response) for completion, example in answers])

    def _total(
        self, completion: ParsedCompletion, example: SupportExample, skill: float | None, judged: float | None
    ) -> RewardBreakdown:
        form = format_reward(completion)
        consistency = consistency_reward(completion, example.reference_response)
        total = self.config.format_weight * form + self.config.consistency_weight * consistency
        if skill is not None:
            total += self.config.support_skill_weight * skill
        if judged is not None:
            total += self.config.judge_weight * judged
        return RewardBreakdown(total=total, format=form, consistency=consistency, support_skill=skill, judge=judged)

    @property
    def _nothing(self) -> RewardBreakdown:
        skill = None if self.scorer is None else 0.0
        judged = None if self.judge is None else 0.0
        return RewardBreakdown(total=0.0, format=0.0, consistency=0.0, support_skill=skill, judge=judged)


def check_reward(config: RewardConfig, *, has_scorer: bool, has_judge: bool) -> None:
    """Raises `ConfigError` where support skill or a judge is asked for and there is none."""
    if config.support_skill_weight != 0 and not has_scorer:
        raise ConfigError(
            f"reward={config.name} rewards support skill (support_skill_weight={config.support_skill_weight:g}), which needs "
            "a scorer of EPITOME levels: give one, or choose reward=wo_support_skill"
        )
    if config.judge_weight != 0 and not has_judge:
        raise ConfigError(
            f"reward={config.name} rewards what a judge says (judge_weight={config.judge_weight:g}), which needs a judge: give "
            "one, or write reward.judge_weight=0"
        )
