"""The three parts of Eq. 5, each a function of one completion."""

from __future__ import annotations

from typing import Protocol

from fires_exp.scores.rouge import rouge_l_f1
from fires_exp.thinking.tags import ParsedCompletion

# a response whose DIFF-EPITOME is at most this earns the support-skill reward (paper, 3.4.3)
DIFF_EPITOME_LIMIT = 1.0

SkillLevels = tuple[int, int, int]


class SupportSkillScorer(Protocol):
    """Reads EPITOME levels. A failure to score is an exception, never a level."""

    name: str

    def levels(self, context: str, response: str) -> SkillLevels:
        """Levels 0, 1 or 2 of emotional reactions, interpretations and explorations of a response to the last seeker turn."""
        ...


def format_reward(completion: ParsedCompletion) -> float:
    """r^F: 1 where the completion has exactly the form that its plan asks for, else 0."""
    return 1.0 if completion.well_formed else 0.0


def consistency_reward(completion: ParsedCompletion, reference_response: str) -> float:
    """r^R: ROUGE-L F1 of the response against the reference, in [0, 1]."""
    return rouge_l_f1(reference_response, completion.response)


def diff_epitome(reference: SkillLevels, response: SkillLevels) -> float:
    """DE: mean squared difference of the three levels (Eq. 4), in [0, 4]."""
    return sum((a - b) ** 2 for a, b in zip(reference, response, strict=True)) / 3


def support_skill_reward(difference: float) -> float:
    """r^DE: 1 where DE <= 1, that is where no mechanism is off by two, else 0."""
    return 1.0 if difference <= DIFF_EPITOME_LIMIT else 0.0
