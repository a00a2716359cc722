"""The three parts of Eq. 5, each a function of one completion."""

from __future__ import annotations

from fires_exp.scores.epitome.levels import SkillLevels, diff_epitome
from fires_exp.scores.rouge import rouge_l_f1
from fires_exp.thinking.tags import ParsedCompletion

# a response whose DIFF-EPITOME is at most this earns the support-skill reward (paper, 3.4.3)
DIFF_EPITOME_LIMIT = 1.0


def format_reward(completion: ParsedCompletion) -> float:
    """r^F: 1 where the completion has exactly the form that its plan asks for, else 0."""
    return 1.0 if completion.well_formed else 0.0


def consistency_reward(completion: ParsedCompletion, reference_response: str) -> float:
    """r^R: ROUGE-L F1 of the response against the reference, in [0, 1]."""
    return rouge_l_f1(reference_response, completion.response)


def support_skill_reward(reference: SkillLevels, response: SkillLevels) -> float:
    """r^DE: 1 where DE <= 1, that is where no mechanism is off by two, else 0."""
    return 1.0 if diff_epitome(reference, response) <= DIFF_EPITOME_LIMIT else 0.0
