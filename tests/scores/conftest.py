"""Texts to score, real ones and those that break things, and WordNet where it is."""

import csv

import pytest

from fires_exp.errors import ScoreError
from fires_exp.scores.wordnet import load_wordnet

EDGES = ["", " ", "yes", "?", "?! …", "😀", "😀 😀 I'm fine.", "I'm\nfine.\n\nReally.", "the the the the", "Ça va, naïve café"]


@pytest.fixture
def mesc_pairs(real_data):
    """300 (reference, response) of real text, a turn and the one before it."""
    with (real_data / "mesc" / "MESC.csv").open(encoding="utf-8", errors="replace", newline="") as file:
        texts = [row["Utterance"] for row in csv.DictReader(file)][:301]
    return list(zip(texts[1:], texts[:-1], strict=True))


@pytest.fixture(scope="session")
def edge_pairs():
    """Every edge case against every other and itself."""
    return [(reference, response) for reference in EDGES for response in EDGES]


@pytest.fixture(scope="session")
def wordnet(cache):
    """The test is skipped where nobody has set it up."""
    try:
        return load_wordnet(cache)
    except ScoreError as error:
        pytest.skip(str(error))
