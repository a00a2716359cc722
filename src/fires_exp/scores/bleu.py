"""BLEU-2 over a corpus."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu

from fires_exp.scores.tokens import words


def bleu_2(references: Sequence[str], responses: Sequence[str]) -> float:
    """NLTK's `corpus_bleu` with weights (1/2, 1/2) and smoothing method 3, in [0, 1]; one reference a response."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NLTK warns of each n-gram order without a match, which smoothing is there for
        return float(
            corpus_bleu(
                [[words(reference)] for reference in references],
                [words(response) for response in responses],
                weights=(0.5, 0.5),
                smoothing_function=SmoothingFunction().method3,
            )
        )
