"""Eq. 4 and 5 on numbers that can be checked by hand."""

import itertools

import pytest
from faulty_server import QUICK

from fires_exp.config.scoring import RewardConfig, SupportSkillConfig
from fires_exp.config.services import JudgeConfig
from fires_exp.data.records import SupportExample, Utterance
from fires_exp.errors import ConfigError
from fires_exp.grpo.rewards import Reward, support_skill_reward
from fires_exp.scores.epitome.levels import SkillLevels, diff_epitome
from fires_exp.thinking.tags import ParsedCompletion

SERVICE = JudgeConfig(**{**QUICK, "base_url": "http://127.0.0.1:9/v1", "attempts": 3})
WEIGHTS = {
    "format_weight": 0.1, "consistency_weight": 1.0, "support_skill": SupportSkillConfig(scorer=None), "judge": SERVICE,
}  # fmt: skip
FIRES = RewardConfig(name="fires", support_skill_weight=0.1, judge_weight=0.0, **WEIGHTS)
WO_SSR = RewardConfig(name="wo_support_skill", support_skill_weight=0.0, judge_weight=0.0, **WEIGHTS)
JUDGED = RewardConfig(name="judge", support_skill_weight=0.0, judge_weight=0.4, **WEIGHTS)


class WordScorer:
    """Levels are the counts of three words, at most 2."""

    name = "words"
    version = "1"

    def __init__(self):
        self.contexts = []

    def levels(self, pairs):
        self.contexts += [context for context, _ in pairs]
        return [
            SkillLevels(*(min(2, response.split().count(word)) for word in ("sorry", "mean", "what"))) for _, response in pairs
        ]


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
    (breakdown,) = Reward(config=FIRES, scorer=WordScorer(), judge=None).score([(completion("sorry what now"), example())])
    # LCS 2 of 3 and 3 words: F1 2/3; the skills agree
    assert breakdown.parts == {"format": 1.0, "consistency": pytest.approx(2 / 3), "support_skill": 1.0}
    assert breakdown.total == pytest.approx(0.1 + 2 / 3 + 0.1)


def test_a_malformed_completion_earns_nothing_at_all():
    (breakdown,) = Reward(config=FIRES, scorer=WordScorer(), judge=None).score(
        [(completion("sorry what happened", well_formed=False), example())]
    )
    assert breakdown.total == 0.0
    assert breakdown.parts == {"format": 0.0, "consistency": 0.0, "support_skill": 0.0}


def test_skills_are_predicted_given_the_last_seeker_turn():
    scorer = WordScorer()
    Reward(config=FIRES, scorer=scorer, judge=None).score([(completion("x"), example())])
    assert scorer.contexts == ["It is over.", "It is over."]


def test_without_support_skill_the_part_is_absent_and_not_zero():
    (breakdown,) = Reward(config=WO_SSR, scorer=None, judge=None).score([(completion("sorry what happened"), example())])
    assert breakdown.parts == {"format": 1.0, "consistency": 1.0}
    assert breakdown.total == pytest.approx(1.1)


def test_support_skill_without_a_scorer_is_refused_with_a_remedy():
    with pytest.raises(ConfigError, match="reward=wo_support_skill"):
        Reward(config=FIRES, scorer=None, judge=None)


class WordJudge:
    """A response is better by a quarter for each "what", up to 1."""

    def __init__(self):
        self.calls = []

    def scores(self, answers):
        self.calls.append([(example.id, response) for example, response in answers])
        return [min(1.0, response.split().count("what") / 4) for _, response in answers]


def test_the_score_of_a_judge_is_a_part_with_its_weight():
    judge = WordJudge()
    judged, malformed, neutral = Reward(config=JUDGED, scorer=None, judge=judge).score(
        [
            (completion("sorry what what"), example()),
            (completion("what", well_formed=False), example()),
            (completion("x"), example()),
        ]
    )
    # LCS 2 of 3 and 3 words: F1 2/3
    assert judged.parts == {"format": 1.0, "consistency": pytest.approx(2 / 3), "judge": 0.5}
    assert judged.total == pytest.approx(0.1 + 2 / 3 + 0.4 * 0.5)
    assert malformed.parts == {"format": 0.0, "consistency": 0.0, "judge": 0.0}
    assert malformed.total == 0.0
    assert neutral.total == pytest.approx(0.1)
    assert judge.calls == [[("a", "sorry what what"), ("a", "x")]]  # in one call, without the malformed one


def test_a_judge_is_called_even_without_responses_because_it_may_be_a_collective():
    judge = WordJudge()
    Reward(config=JUDGED, scorer=None, judge=judge).score([(completion("what", well_formed=False), example())])
    assert judge.calls == [[]]


def test_a_judge_weight_without_a_judge_is_refused_with_a_remedy():
    with pytest.raises(ConfigError, match=r"reward\.judge_weight=0"):
        Reward(config=JUDGED, scorer=None, judge=None)


def test_diff_epitome_fails_exactly_when_a_mechanism_is_off_by_two():
    levels = list(itertools.product(range(3), repeat=3))
    for reference, response in itertools.product(levels, levels):
        off_by_two = any(abs(a - b) == 2 for a, b in zip(reference, response, strict=True))
        assert support_skill_reward(reference, response) == (0.0 if off_by_two else 1.0)


def test_diff_epitome_is_the_mean_squared_difference():
    assert diff_epitome((0, 1, 2), (1, 1, 0)) == pytest.approx((1 + 0 + 4) / 3)


def test_answers_are_scored_together_and_each_keeps_its_own_reference():
    answers = [
        (completion("sorry"), example("what what")),
        (completion("sorry", well_formed=False), example()),
        (completion("what what"), example("what what")),
    ]
    reward = Reward(config=FIRES, scorer=WordScorer(), judge=None)
    together = reward.score(answers)
    assert together == [reward.score([answer])[0] for answer in answers]
    assert [breakdown.support_skill for breakdown in together] == [0.0, 0.0, 1.0]
    assert reward.score([]) == []
