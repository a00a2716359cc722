"""Eq. 4-5: the reward of a completion.

    r^F   format          1 if the completion has exactly the required form, else 0
    r^R   consistency     ROUGE-L F1 of the response against the reference response
    r^DE  support skill   Eq. 4: 1 if DIFF-EPITOME of response and reference is at most 1, else 0
    r^J   judge           1 if a judge prefers the response to the reference (not in the paper; weight 0 by default)

Eq. 5: r = w^F r^F + w^R r^R + w^DE r^DE (+ w^J r^J) for a well-formed completion, and 0 for a malformed one. The weights are not
normalized.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from fires_exp.config.scoring import RewardConfig
from fires_exp.data.records import SupportExample
from fires_exp.errors import ConfigError
from fires_exp.grpo.rollouts import RolloutGroup
from fires_exp.scores.epitome.levels import SkillLevels, SupportSkillScorer, diff_epitome
from fires_exp.scores.rouge import rouge_l_f1
from fires_exp.thinking.tags import ParsedCompletion

# a response whose DIFF-EPITOME is at most this earns the support-skill reward (paper, 3.4.3)
DIFF_EPITOME_LIMIT = 1.0

# a parsed completion and the example that it responds to
CompletionOfExample = tuple[ParsedCompletion, SupportExample]


def format_reward(completion: ParsedCompletion) -> float:
    """r^F: 1 if the completion has exactly the form that its thinking plan requires, else 0."""
    return 1.0 if completion.well_formed else 0.0


def consistency_reward(completion: ParsedCompletion, reference_response: str) -> float:
    """r^R: ROUGE-L F1 of the response against the reference response, in [0, 1]."""
    return rouge_l_f1(reference_response, completion.response)


def support_skill_reward(reference: SkillLevels, response: SkillLevels) -> float:
    """r^DE (Eq. 4): 1 if DE <= 1, that is if no mechanism is off by two levels, else 0."""
    return 1.0 if diff_epitome(reference, response) <= DIFF_EPITOME_LIMIT else 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class RewardBreakdown:
    """The reward of one completion: `total` is what GRPO optimizes, the parts are unweighted. `support_skill` and `judge` are
    None if they were not computed.

    >>> RewardBreakdown(total=0.4, format=1.0, consistency=0.3, support_skill=None, judge=None).parts
    {'format': 1.0, 'consistency': 0.3}
    """

    total: float
    format: float
    consistency: float
    support_skill: float | None
    judge: float | None

    @property
    def parts(self) -> dict[str, float]:
        """The computed parts by name."""
        parts = {
            "format": self.format,
            "consistency": self.consistency,
            "support_skill": self.support_skill,
            "judge": self.judge,
        }
        return {name: part for name, part in parts.items() if part is not None}


class CompletionReward(Protocol):
    """The interface of a reward function. `Reward` is the paper's."""

    def score(self, completions: Sequence[CompletionOfExample]) -> list[RewardBreakdown]:
        """One breakdown for each completion, in order. The score of a completion must not depend on the others."""
        ...


class ResponseJudge(Protocol):
    """The interface of a judge that compares responses with references, such as `scores.judge.ReferenceJudge`."""

    def scores(self, answers: Sequence[tuple[SupportExample, str]]) -> list[float]:
        """For each response, in order: 1 if it is better than the reference response, 0 if it is worse."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Reward:
    """Eq. 5 with its weights, the scorer of support skills and the judge."""

    config: RewardConfig
    scorer: SupportSkillScorer | None
    judge: ResponseJudge | None

    def __post_init__(self) -> None:
        check_reward(self.config, has_scorer=self.scorer is not None, has_judge=self.judge is not None)

    def score(self, completions: Sequence[CompletionOfExample]) -> list[RewardBreakdown]:
        """Eq. 5 for each completion. All parts of a malformed completion are 0, and neither scorer nor judge sees it."""
        well_formed = [(completion, example) for completion, example in completions if completion.well_formed]
        skills = iter(self._support_skill_rewards(well_formed))
        preferences = iter(self._judge_rewards(well_formed))
        return [
            self._well_formed_reward(completion, example, next(skills), next(preferences))
            if completion.well_formed
            else self._malformed_reward
            for completion, example in completions
        ]

    def _support_skill_rewards(self, completions: Sequence[CompletionOfExample]) -> list[float | None]:
        """r^DE of each completion; the levels of references and responses are predicted in one batch."""
        if self.scorer is None:
            return [None] * len(completions)
        responses = [(example.last_seeker_text, completion.response) for completion, example in completions]
        references = [(example.last_seeker_text, example.reference_response) for _, example in completions]
        levels = self.scorer.levels([*references, *responses])
        return [
            support_skill_reward(reference, response)
            for reference, response in zip(levels[: len(completions)], levels[len(completions) :], strict=True)
        ]

    def _judge_rewards(self, completions: Sequence[CompletionOfExample]) -> Sequence[float | None]:
        """r^J of each completion. An empty sequence is passed on to the judge, whose `scores` may be a collective."""
        if self.judge is None:
            return [None] * len(completions)
        return self.judge.scores([(example, completion.response) for completion, example in completions])

    def _well_formed_reward(
        self, completion: ParsedCompletion, example: SupportExample, skill: float | None, preference: float | None
    ) -> RewardBreakdown:
        form = format_reward(completion)
        consistency = consistency_reward(completion, example.reference_response)
        total = self.config.format_weight * form + self.config.consistency_weight * consistency
        if skill is not None:
            total += self.config.support_skill_weight * skill
        if preference is not None:
            total += self.config.judge_weight * preference
        return RewardBreakdown(total=total, format=form, consistency=consistency, support_skill=skill, judge=preference)

    @property
    def _malformed_reward(self) -> RewardBreakdown:
        skill = None if self.scorer is None else 0.0
        preference = None if self.judge is None else 0.0
        return RewardBreakdown(total=0.0, format=0.0, consistency=0.0, support_skill=skill, judge=preference)


def check_reward(config: RewardConfig, *, has_scorer: bool, has_judge: bool) -> None:
    """Raises `ConfigError` if a part with a weight lacks its scorer or judge."""
    if config.support_skill_weight != 0 and not has_scorer:
        raise ConfigError(
            f"reward={config.name} has reward.support_skill_weight={config.support_skill_weight:g}, which needs a scorer of "
            "EPITOME levels: set reward.support_skill.scorer, or choose reward=wo_support_skill"
        )
    if config.judge_weight != 0 and not has_judge:
        raise ConfigError(
            f"reward={config.name} has reward.judge_weight={config.judge_weight:g}, which needs a judge: configure "
            "reward.judge, or write reward.judge_weight=0"
        )


def score_groups(groups: Sequence[RolloutGroup], reward: CompletionReward) -> list[tuple[RewardBreakdown, ...]]:
    """Eq. 5 for P groups of G completions, each against the reference of its own group. All are scored in one batch.

    The reward is called even without groups, because its judge may be a collective that other ranks take part in.
    """
    completions = [(rollout.parsed, group.example) for group in groups for rollout in group.rollouts]
    breakdowns = iter(reward.score(completions))
    return [tuple(itertools.islice(breakdowns, len(group.rollouts))) for group in groups]
