"""ROUGE-L, twice: plain F1 for the reward, and the metric's F with beta = 1.2 (paper-notes of the README say why)."""

from __future__ import annotations

from collections.abc import Sequence

from rouge_score.rouge_scorer import RougeScorer

from fires_exp.scores.tokens import words

METRIC_BETA = 1.2

_SCORER = RougeScorer(["rougeL"], use_stemmer=False)


def rouge_l_f1(reference: str, response: str) -> float:
    """F1 over the longest common subsequence, in [0, 1]: `rouge_score`'s own rougeL (its tokens: lower-case a-z0-9 runs)."""
    return float(_SCORER.score(reference, response)["rougeL"].fmeasure)


def rouge_l_f(reference: str, response: str) -> float:
    """F with beta = 1.2 over the longest common subsequence of NLTK words, in [0, 1]."""
    expected, found = words(reference), words(response)
    common = lcs_length(expected, found)
    if common == 0:
        return 0.0
    precision, recall = common / len(found), common / len(expected)
    return (1 + METRIC_BETA**2) * precision * recall / (recall + METRIC_BETA**2 * precision)


def lcs_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence; O(len · len) time, one row of memory."""
    row = [0] * (len(second) + 1)
    for token in first:
        diagonal = 0
        for place, other in enumerate(second, start=1):
            above = row[place]
            row[place] = diagonal + 1 if token == other else max(above, row[place - 1])
            diagonal = above
    return row[-1]
