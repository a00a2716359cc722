"""BLEU-2 over a corpus, by way of the counts that it is made of, so that any resample of the corpus can be scored."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from nltk.translate.bleu_score import modified_precision

from fires_exp.scores.tokens import words

Floats = npt.NDArray[np.float64]

COUNTS = 6


def bleu_2_counts(reference: str, response: str) -> tuple[int, ...]:
    """What one response adds to a corpus: matches and n-grams of order 1, the same of order 2 (NLTK's modified precision), words
    of the response, words of the reference."""
    expected, found = words(reference), words(response)
    unigrams, bigrams = (modified_precision([expected], found, order) for order in (1, 2))
    return (unigrams.numerator, unigrams.denominator, bigrams.numerator, bigrams.denominator, len(found), len(expected))


def bleu_2(counts: Floats) -> Floats:
    """BLEU-2 of corpora from their summed counts, [..., COUNTS] to [...], in [0, 1]: NLTK's `corpus_bleu` with weights
    (1/2, 1/2) and smoothing method 3, which puts half a match where no bigram matches."""
    unigram_matches, unigrams, bigram_matches, bigrams, found, expected = np.moveaxis(counts, -1, 0)
    precisions = unigram_matches / unigrams * np.where(bigram_matches > 0, bigram_matches, 0.5) / bigrams
    brevity = np.exp(np.minimum(0.0, 1 - expected / np.maximum(found, 1)))
    return np.asarray(np.where(unigram_matches > 0, brevity * np.sqrt(precisions), 0.0))
