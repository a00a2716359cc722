"""Eq. 4 and 5 on numbers that can be checked by hand."""

import itertools

import pytest

from fires_exp.config.schema import RewardConfig
from fires_exp.data.records import SupportExample, Utterance
from fires_exp.errors import ConfigError
from fires_exp.rewards.parts import diff_epitome, support_skill_reward
from fires_exp.rewards.total import Reward
from fires_exp.thinking.tags import ParsedCompletion

FIRES = RewardConfig(name="fires", format_weight=0.1, consistency_weight=1.0, support_skill_weight=0.1)
WO_SSR = RewardConfig(name="wo_support_skill", format_weight=0.1, consistency_weight=1.0, support_skill_weight=0.0)


class WordScorer:
    """Levels are the counts of three words, at most 2."""

    name = "words"

    def __init__(self):
        self.contexts = []

    def levels(self, context, response):
        self.contexts.append(context)
        return tuple(min(2, response.split().count(word)) for word in ("sorry", "mean", "what"))


def example(reference="sorry what happened"):
    return SupportExample(
        id="a",
        split="train",
        history=(Utterance(speaker="seeker", text="It is over."), Utterance(speaker="supporter", text="Oh.")),
        target=Utterance(speaker="supporter", text=reference),
    )


def completion(response, well_formed=True):
    return ParsedCompletion(thought="t", response=response, well_formed=well_formed)


def test_total_is_the_weighted_sum_of_eq_5():
    breakdown = Reward(config=FIRES, scorer=WordScorer()).score(completion("sorry what now"), example())
    # LCS 2 of 3 and 3 words: F1 2/3; the skills agree
    assert breakdown.parts == {"format": 1.0, "consistency": pytest.approx(2 / 3), "support_skill": 1.0}
    assert breakdown.total == pytest.approx(0.1 + 2 / 3 + 0.1)


def test_a_malformed_completion_earns_nothing_at_all():
    breakdown = Reward(config=FIRES, scorer=WordScorer()).score(completion("sorry what happened", well_formed=False), example())
    assert breakdown.total == 0.0
    assert breakdown.parts == {"format": 0.0, "consistency": 0.0, "support_skill": 0.0}


def test_skills_are_read_against_the_last_seeker_turn():
    scorer = WordScorer()
    Reward(config=FIRES, scorer=scorer).score(completion("x"), example())
    assert scorer.contexts == ["It is over.", "It is over."]


def test_without_support_skill_the_part_is_absent_and_not_zero():
    breakdown = Reward(config=WO_SSR, scorer=None).score(completion("sorry what happened"), example())
    assert breakdown.parts == {"format": 1.0, "consistency": 1.0}
    assert breakdown.total == pytest.approx(1.1)


def test_support_skill_without_a_scorer_is_refused_with_the_way_out():
    with pytest.raises(ConfigError, match="reward=wo_support_skill"):
        Reward(config=FIRES, scorer=None)


def test_diff_epitome_fails_exactly_when_a_mechanism_is_off_by_two():
    levels = list(itertools.product(range(3), repeat=3))
    for reference, response in itertools.product(levels, levels):
        off_by_two = any(abs(a - b) == 2 for a, b in zip(reference, response, strict=True))
        assert support_skill_reward(diff_epitome(reference, response)) == (0.0 if off_by_two else 1.0)


def test_diff_epitome_is_the_mean_squared_difference():
    assert diff_epitome((0, 1, 2), (1, 1, 0)) == pytest.approx((1 + 0 + 4) / 3)
