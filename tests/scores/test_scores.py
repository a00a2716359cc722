"""Scores against hand-computed numbers and against libraries."""

import random

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer

from fires_exp.scores.bleu import bleu_2, bleu_2_counts
from fires_exp.scores.distinct import distinct, distinct_without_each
from fires_exp.scores.rouge import lcs_length, rouge_l_f, rouge_l_f1
from fires_exp.scores.tokens import words


def test_reward_rouge_equals_rouge_score():
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    generator = random.Random(0)
    vocabulary = ["you", "feel", "What", "happened?", "I'm", "sorry,", "that", "…"]
    for _ in range(200):
        reference, response = (" ".join(generator.choices(vocabulary, k=generator.randint(0, 9))) for _ in range(2))
        assert rouge_l_f1(reference, response) == scorer.score(reference, response)["rougeL"].fmeasure


def test_metric_rouge_by_hand():
    # "so how do you feel ?" against "how do you feel ?": LCS 5, precision 5/5, recall 5/6
    precision, recall = 1.0, 5 / 6
    expected = (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)
    assert rouge_l_f("So how do you feel?", "How do you feel?") == pytest.approx(expected)
    assert rouge_l_f("yes", "no") == 0.0
    assert rouge_l_f("yes", "") == 0.0


def test_lcs_skips_tokens_without_a_match():
    assert lcs_length("abcbdab", "bdcaba") == 4


def test_words_are_lower_case_and_sentences_are_split_first():
    assert words("I'm fine. Really.") == ("i", "'m", "fine", ".", "really", ".")


def test_bleu_2_by_hand():
    # unigrams 3/4, bigrams 2/3, no brevity penalty: sqrt(3/4 * 2/3)
    counts = bleu_2_counts("how are you", "how are you today")
    assert counts == (3, 4, 2, 3, 4, 3)
    assert bleu_2(np.array(counts)) == pytest.approx((0.75 * 2 / 3) ** 0.5)


def test_distinct_counts_over_the_corpus_or_a_response():
    # trigrams: abc bca cab abc | bcd | none: 4 different of 5
    responses = ["a b c a b c", "b c d", "a b"]
    assert distinct(responses, 3) == 4 / 5
    assert distinct_without_each(responses, 3) == [1.0, 3 / 4, 4 / 5]
    assert distinct(["a"], 3) == 0.0
    assert distinct_without_each(["a b c"], 3) == [0.0]
