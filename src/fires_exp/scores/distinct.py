"""Distinct-n (Li et al., 2016): the share of n-grams that are different, over the corpus or over one response."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fires_exp.scores.tokens import words


def ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    """All n-grams of a text's words, in order."""
    tokens = words(text)
    return [tokens[start : start + n] for start in range(len(tokens) - n + 1)]


def distinct(responses: Sequence[str], n: int) -> float:
    """The number of different n-grams of all responses divided by the number of their n-grams, in [0, 1]; 0 without n-grams."""
    grams = [gram for response in responses for gram in ngrams(response, n)]
    return _share(len(set(grams)), len(grams))


def distinct_without_each(responses: Sequence[str], n: int) -> list[float]:
    """`distinct` of the corpus without its first response, without its second, and so on."""
    by_response = [ngrams(response, n) for response in responses]
    response_counts = Counter(gram for grams in by_response for gram in set(grams))
    total = sum(map(len, by_response))
    return [
        _share(len(response_counts) - sum(response_counts[gram] == 1 for gram in set(grams)), total - len(grams))
        for grams in by_response
    ]


def _share(different: int, count: int) -> float:
    return different / count if count else 0.0
