"""Texts to score, real ones and edge cases, and WordNet if it is installed."""

import csv

import pytest

from fires_exp.errors import ScoreError
from fires_exp.scores.wordnet import load_wordnet

EDGES = ["", " ", "yes", "?", "?! …", "😀", "😀 😀 I'm fine.", "I'm\nfine.\n\nReally.", "the the the the", "Ça va, naïve café"]


@pytest.fixture
def mesc_pairs(real_data):
    """300 pairs (reference, response) of real text: a turn and the turn before it."""
    with (real_data / "mesc" / "MESC.csv").open(encoding="utf-8", errors="replace", newline="") as file:
        texts = [row["Utterance"] for row in csv.DictReader(file)][:301]
    return list(zip(texts[1:], texts[:-1], strict=True))


@pytest.fixture(scope="session")
def edge_pairs():
    """All pairs of edge cases."""
    return [(reference, response) for reference in EDGES for response in EDGES]


@pytest.fixture(scope="session")
def wordnet(cache):
    """NLTK's reader; the test is skipped if WordNet is not installed."""
    try:
        return load_wordnet(cache)
    except ScoreError as error:
        pytest.skip(str(error))
