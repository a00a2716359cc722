"""BLEU-2 of a corpus, computed from n-gram counts per response, so that every resample of the corpus can be scored."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from nltk.translate.bleu_score import modified_precision

from fires_exp.scores.tokens import words

Floats = npt.NDArray[np.float64]

COUNTS = 6


def bleu_2_counts(reference: str, response: str) -> tuple[int, ...]:
    """The counts of one response: unigram matches and unigrams, bigram matches and bigrams (NLTK's modified precision), words of
    the response, words of the reference."""
    reference_words, response_words = words(reference), words(response)
    unigrams, bigrams = (modified_precision([reference_words], response_words, order) for order in (1, 2))
    return (
        *(unigrams.numerator, unigrams.denominator),
        *(bigrams.numerator, bigrams.denominator),
        *(len(response_words), len(reference_words)),
    )


def bleu_2(counts: Floats) -> Floats:
    """BLEU-2 of corpora from their summed counts, [..., COUNTS] to [...], in [0, 1].

    NLTK's `corpus_bleu` with weights (1/2, 1/2) and smoothing method 3, which counts half a match if no bigram matches.
    """
    unigram_matches, unigrams, bigram_matches, bigrams, response_words, reference_words = np.moveaxis(counts, -1, 0)
    precisions = unigram_matches / unigrams * np.where(bigram_matches > 0, bigram_matches, 0.5) / bigrams
    brevity = np.exp(np.minimum(0.0, 1 - reference_words / np.maximum(response_words, 1)))
    return np.asarray(np.where(unigram_matches > 0, brevity * np.sqrt(precisions), 0.0))
