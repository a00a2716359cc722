"""From ratings to win, tie and lose rates of the first system.

Every instance counts once: of several raters' verdicts on it, each has an equal part. Raters of one instance look at the same
two texts, so their verdicts are no independent draws; intervals and the test therefore count instances, not verdicts.
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
    """Questions that nobody answered are left out."""
    answered = [name for name in key.questions if any(question == name for one in raters for _, question in one.verdicts)]
    return StudyResult(
        study=key.study,
        first=key.systems["first"],
        second=key.systems["second"],
        instances=len(key.items),
        complete=tuple(sum(all((item, name) in one.verdicts for name in key.questions) for item in key.items) for one in raters),
        questions=tuple(_question_result(key, name, raters) for name in answered),
    )


def _question_result(key: Key, question: str, raters: Sequence[Ratings]) -> QuestionResult:
    labels = [
        {item: key.outcome(item, verdict) for (item, asked), verdict in one.verdicts.items() if asked == question}
        for one in raters
    ]
    rated = [item for item in key.items if any(item in of for of in labels)]
    outcomes = [[of[item] for of in labels if item in of] for item in rated]
    margins = [of.count("win") - of.count("lose") for of in outcomes]
    return QuestionResult(
        question=question,
        rates={outcome: wilson(sum(of.count(outcome) / len(of) for of in outcomes), len(outcomes)) for outcome in OUTCOMES},
        instances=len(outcomes),
        verdicts=sum(map(len, labels)),
        p_value=sign_test(sum(margin > 0 for margin in margins), sum(margin < 0 for margin in margins)),
        agreement=observed_agreement(labels),
        kappa=cohens_kappa(labels),
        alpha=krippendorffs_alpha(labels),
    )


def wilson(successes: float, trials: int) -> Rate:
    """Wilson's score interval (1927). `successes` may be a sum of parts, which makes the interval too wide rather than too
    narrow: a mean of several verdicts varies less than a single one.

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
    """Exact, two-sided: how likely so uneven a split of the decided instances is if neither system is better. Instances where
    raters balance out, or see no difference, say nothing.

    >>> sign_test(8, 2)
    0.109375
    """
    decided = wins + losses
    tail = sum(math.comb(decided, count) for count in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / (1 << decided))
