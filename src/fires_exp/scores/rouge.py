"""ROUGE-L in two versions: plain F1 for the reward, and F with beta = 1.2 for the metric."""

from __future__ import annotations

from collections.abc import Sequence

from rouge_score.rouge_scorer import RougeScorer

from fires_exp.scores.tokens import words

METRIC_BETA = 1.2

_SCORER = RougeScorer(["rougeL"], use_stemmer=False)


def rouge_l_f1(reference: str, response: str) -> float:
    """F1 over the longest common subsequence, in [0, 1]: rougeL of `rouge_score`, whose tokens are lower-case a-z0-9 runs."""
    return float(_SCORER.score(reference, response)["rougeL"].fmeasure)


def rouge_l_f(reference: str, response: str) -> float:
    """F with beta = 1.2 over the longest common subsequence of NLTK words, in [0, 1]."""
    reference_words, response_words = words(reference), words(response)
    common = lcs_length(reference_words, response_words)
    if common == 0:
        return 0.0
    precision, recall = common / len(response_words), common / len(reference_words)
    return (1 + METRIC_BETA**2) * precision * recall / (recall + METRIC_BETA**2 * precision)


def lcs_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, in O(len · len) time with one row of memory."""
    row = [0] * (len(second) + 1)
    for token in first:
        diagonal = 0
        for column, other in enumerate(second, start=1):
            above = row[column]
            row[column] = diagonal + 1 if token == other else max(above, row[column - 1])
            diagonal = above
    return row[-1]
