"""Distinct-n (Li et al., 2016): different n-grams over all n-grams, of the corpus or of each response."""

from __future__ import annotations

from collections.abc import Sequence

from fires_exp.scores.tokens import words


def ngrams(text: str, n: int) -> list[tuple[str, ...]]:
    """All n-grams of a text's words, in order."""
    tokens = words(text)
    return [tokens[start : start + n] for start in range(len(tokens) - n + 1)]


def distinct_corpus(responses: Sequence[str], n: int) -> float:
    """Different n-grams of all responses together over all their n-grams, in [0, 1]; 0 where there is none."""
    grams = [gram for response in responses for gram in ngrams(response, n)]
    return len(set(grams)) / len(grams) if grams else 0.0


def distinct_per_response(responses: Sequence[str], n: int) -> float:
    """Mean over responses of each one's own share of different n-grams; a response shorter than n words counts 0."""
    shares = [len(set(grams)) / len(grams) if (grams := ngrams(response, n)) else 0.0 for response in responses]
    return sum(shares) / len(shares) if shares else 0.0
