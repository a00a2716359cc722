"""METEOR."""

from __future__ import annotations

from typing import Any

from nltk.translate.meteor_score import meteor_score

from fires_exp.scores.tokens import words

ALPHA, BETA, GAMMA = 0.9, 3.0, 0.5


def meteor(reference: str, response: str, wordnet: Any) -> float:
    """NLTK's METEOR with its usual parameters, in [0, 1]: exact matches, then Porter's stems, then WordNet's synonyms (of the
    stems: NLTK does so). A perfect copy of m words scores 1 - 0.5 / m^3, since even one chunk pays a penalty."""
    return float(meteor_score([words(reference)], words(response), wordnet=wordnet, alpha=ALPHA, beta=BETA, gamma=GAMMA))
