"""METEOR (Banerjee and Lavie, 2005)."""

from __future__ import annotations

from typing import Any

from nltk.translate.meteor_score import meteor_score

from fires_exp.scores.tokens import words

ALPHA, BETA, GAMMA = 0.9, 3.0, 0.5


def meteor(reference: str, response: str, wordnet: Any) -> float:
    """NLTK's METEOR with its default parameters, in [0, 1]: matches of words, then of Porter stems, then of WordNet synonyms of
    the stems, as in NLTK. A perfect copy of m words scores 1 - 0.5 / m^3, since even one chunk is penalized."""
    return float(meteor_score([words(reference)], words(response), wordnet=wordnet, alpha=ALPHA, beta=BETA, gamma=GAMMA))
