"""Win, tie and lose rates of the first system from ratings.

Every instance counts once; the verdicts of several raters on it have equal weights. Raters of an instance see the same two texts,
so their verdicts are not independent: intervals and the test count instances, not verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from fires_exp.human_eval.agreement import cohens_kappa, krippendorffs_alpha, observed_agreement
from fires_exp.human_eval.files import Ratings
from fires_exp.human_eval.study import OUTCOMES, Key, Outcome

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """A share with its interval, all from 0 to 1."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class QuestionResult:
    """`instances` were rated by at least one rater, `verdicts` by all together. `p_value` is the sign test's; the measures of
    agreement are None where they are not defined."""

    question: str
    rates: Mapping[Outcome, Rate]
    instances: int
    verdicts: int
    p_value: float
    agreement: float | None
    kappa: float | None
    alpha: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyResult:
    """`complete` counts, for each rater, the instances with every question answered."""

    study: str
    first: str
    second: str
    instances: int
    complete: tuple[int, ...]
    questions: tuple[QuestionResult, ...]


def study_result(key: Key, raters: Sequence[Ratings]) -> StudyResult:
    """The result of every question that was answered at least once."""
    answered = [name for name in key.questions if any(question == name for ratings in raters for _, question in ratings.verdicts)]
    return StudyResult(
        study=key.study,
        first=key.systems["first"],
        second=key.systems["second"],
        instances=len(key.items),
        complete=tuple(_complete(key, ratings) for ratings in raters),
        questions=tuple(_question_result(key, name, raters) for name in answered),
    )


def _complete(key: Key, ratings: Ratings) -> int:
    """How many instances have all questions answered."""
    return sum(all((item, name) in ratings.verdicts for name in key.questions) for item in key.items)


def _question_result(key: Key, question: str, raters: Sequence[Ratings]) -> QuestionResult:
    labels = [
        {item: key.outcome(item, verdict) for (item, name), verdict in ratings.verdicts.items() if name == question}
        for ratings in raters
    ]
    rated = [item for item in key.items if any(item in rater for rater in labels)]
    outcomes = [[rater[item] for rater in labels if item in rater] for item in rated]
    margins = [verdicts.count("win") - verdicts.count("lose") for verdicts in outcomes]
    return QuestionResult(
        question=question,
        rates={
            outcome: wilson(sum(verdicts.count(outcome) / len(verdicts) for verdicts in outcomes), len(outcomes))
            for outcome in OUTCOMES
        },
        instances=len(outcomes),
        verdicts=sum(map(len, labels)),
        p_value=sign_test(sum(margin > 0 for margin in margins), sum(margin < 0 for margin in margins)),
        agreement=observed_agreement(labels),
        kappa=cohens_kappa(labels),
        alpha=krippendorffs_alpha(labels),
    )


def wilson(successes: float, trials: int) -> Rate:
    """Wilson's score interval (1927). `successes` may be a sum of fractions; the interval is then rather too wide than too
    narrow, because a mean of several verdicts varies less than a single verdict.

    >>> rate = wilson(5, 10)
    >>> round(rate.low, 4), round(rate.high, 4)
    (0.2366, 0.7634)
    """
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    share = successes / trials
    shrink = 1 + z * z / trials
    center = (share + z * z / (2 * trials)) / shrink
    reach = z / shrink * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return Rate(value=share, low=max(0.0, center - reach), high=min(1.0, center + reach))


def sign_test(wins: int, losses: int) -> float:
    """The exact two-sided sign test: the probability of a split at least as uneven if neither system is better. Instances without
    a majority do not count.

    >>> sign_test(8, 2)
    0.109375
    """
    decided = wins + losses
    tail = sum(math.comb(decided, count) for count in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / (1 << decided))
