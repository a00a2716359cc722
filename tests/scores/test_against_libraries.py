"""Scores equal those of NLTK, rouge-score and sacrebleu, on real text and on edge cases."""

import itertools
import re
import warnings

import numpy as np
import pytest
from nltk.tokenize import word_tokenize
from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu
from nltk.translate.meteor_score import single_meteor_score
from nltk.util import ngrams as nltk_ngrams
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from fires_exp.scores.bleu import bleu_2, bleu_2_counts
from fires_exp.scores.distinct import distinct, distinct_without_each
from fires_exp.scores.meteor import meteor
from fires_exp.scores.rouge import rouge_l_f, rouge_l_f1
from fires_exp.scores.tokens import words


@pytest.fixture(params=["mesc_pairs", "edge_pairs"])
def pairs(request):
    return request.getfixturevalue(request.param)


def nltk_words(text):
    """The words of the cited code, without the punkt model."""
    sentences = re.split(r"(?<=[.!?])\s+", text.lower().strip())
    return [word for sentence in sentences for word in word_tokenize(sentence, preserve_line=True)]


def nltk_bleu(pairs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about n-gram orders without a match
        return corpus_bleu(
            [[nltk_words(reference)] for reference, _ in pairs],
            [nltk_words(response) for _, response in pairs],
            weights=(0.5, 0.5),
            smoothing_function=SmoothingFunction().method3,
        )


def our_bleu(pairs):
    return float(bleu_2(np.array([bleu_2_counts(*pair) for pair in pairs]).sum(axis=0)))


def test_words_equal_those_of_nltk(pairs):
    for text in {text for pair in pairs for text in pair}:
        assert list(words(text)) == nltk_words(text)


def test_bleu_2_of_a_corpus_and_of_every_pair_equals_nltk(pairs):
    assert our_bleu(pairs) == pytest.approx(nltk_bleu(pairs), abs=1e-9)
    for pair in pairs:
        assert our_bleu([pair]) == pytest.approx(nltk_bleu([pair]), abs=1e-9)


def test_bleu_2_of_resamples_equals_nltk_on_the_repeated_pairs(mesc_pairs):
    pairs = mesc_pairs[:60]
    counts_N6 = np.array([bleu_2_counts(*pair) for pair in pairs], dtype=float)
    weights_RN = np.random.default_rng(0).multinomial(60, np.full(60, 1 / 60), size=5).astype(float)
    naive = [nltk_bleu([pair for pair, times in zip(pairs, row, strict=True) for _ in range(int(times))]) for row in weights_RN]
    np.testing.assert_allclose(bleu_2(weights_RN @ counts_N6), naive, rtol=0, atol=1e-9)


def test_bleu_2_equals_sacrebleu_where_no_smoothing_is_needed(mesc_pairs):
    # for a response of a single word NLTK counts one bigram and sacrebleu none, so such responses are excluded
    pairs = [pair for pair in mesc_pairs if len(words(pair[1])) >= 2]
    scorer = BLEU(max_ngram_order=2, tokenize="none", smooth_method="none", force=True)
    references, responses = ([" ".join(words(pair[side])) for pair in pairs] for side in (0, 1))
    assert 100 * our_bleu(pairs) == pytest.approx(scorer.corpus_score(responses, [references]).score, abs=1e-9)


def test_reward_rouge_equals_rouge_score(pairs):
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    for reference, response in pairs:
        assert rouge_l_f1(reference, response) == scorer.score(reference, response)["rougeL"].fmeasure


def test_metric_rouge_follows_from_precision_and_recall_of_rouge_score(pairs):
    class NltkWords:
        tokenize = staticmethod(nltk_words)

    scorer = RougeScorer(["rougeL"], tokenizer=NltkWords())
    for reference, response in pairs:
        precision, recall, _ = scorer.score(reference, response)["rougeL"]
        expected = 2.44 * precision * recall / (recall + 1.44 * precision) if precision else 0.0
        assert rouge_l_f(reference, response) == pytest.approx(expected, abs=1e-9)


def test_meteor_equals_nltk(pairs, wordnet):
    for reference, response in pairs:
        expected = single_meteor_score(nltk_words(reference), nltk_words(response), wordnet=wordnet)
        assert meteor(reference, response, wordnet) == pytest.approx(expected, abs=1e-9)


def test_meteor_of_the_example_in_nltks_documentation(wordnet):
    reference = "It is a guide to action that ensures that the military will forever heed Party commands"
    response = "It is a guide to action which ensures that the military always obeys the commands of the party"
    assert meteor(reference, response, wordnet) == pytest.approx(0.6944, abs=5e-5)


def test_meteor_matches_synonyms_and_penalizes_even_one_chunk(wordnet):
    assert meteor("a big car", "a big auto", wordnet) == meteor("a big car", "a big car", wordnet) == 1 - 0.5 / 27
    assert meteor("hello", "hello", wordnet) == 0.5
    assert meteor("hello", "", wordnet) == meteor("", "hello", wordnet) == meteor("hello", "?", wordnet) == 0.0


def nltk_distinct(responses):
    grams = list(itertools.chain.from_iterable(nltk_ngrams(nltk_words(response), 3) for response in responses))
    return len(set(grams)) / len(grams) if grams else 0.0


def test_distinct_3_equals_a_count_of_nltks_trigrams(pairs):
    responses = [response for _, response in pairs]
    assert distinct(responses, 3) == pytest.approx(nltk_distinct(responses), abs=1e-9)
    for response in responses:
        assert distinct([response], 3) == pytest.approx(nltk_distinct([response]), abs=1e-9)


def test_distinct_3_without_each_response_equals_a_count_of_the_others(pairs):
    responses = [response for _, response in pairs[:60]]
    naive = [nltk_distinct(responses[:index] + responses[index + 1 :]) for index in range(len(responses))]
    np.testing.assert_allclose(distinct_without_each(responses, 3), naive, rtol=0, atol=1e-9)
