"""How a mechanism is trained: weights, order, rationales, the best epoch."""

from collections import Counter

import pytest
import torch

from fires_exp.metrics.classification import f1_scores, level_table, macro_f1, token_f1
from fires_exp.scores.epitome.texts import Tokens
from fires_exp.training.epitome import level_weights
from fires_exp.training.epitome_data import IGNORED, length_batches, rationale_bits


def test_weighted_loss_gives_every_level_the_same_total_weight():
    levels = [0] * 6 + [1] * 1 + [2] * 3
    weights = level_weights(levels, "weighted")
    # 10 pairs, 3 levels: 10 / (3 * count)
    assert weights.tolist() == pytest.approx([10 / 18, 10 / 3, 10 / 9])
    totals = Counter()
    for level in levels:
        totals[level] += float(weights[level])
    assert totals[0] == pytest.approx(totals[1]) == pytest.approx(totals[2])
    assert level_weights(levels, "plain").tolist() == [1, 1, 1]
    assert level_weights([0, 2], "weighted").tolist() == pytest.approx([2 / 3, 1, 2 / 3])


def test_every_epoch_sees_every_pair_once_in_batches_of_similar_length():
    lengths = [index % 37 for index in range(200)]
    steps = length_batches(lengths, batch_size=8, epochs=2, seed=3)
    assert len(steps) == 50
    for epoch in (steps[:25], steps[25:]):
        assert sorted(index for batch in epoch for index in batch) == list(range(200))
    assert steps[:25] != steps[25:]
    spread = [max(lengths[index] for index in batch) - min(lengths[index] for index in batch) for batch in steps]
    assert sum(spread) / len(spread) < 5
    assert steps == length_batches(lengths, batch_size=8, epochs=2, seed=3)


def test_a_token_is_a_rationale_token_if_it_overlaps_a_span():
    tokens = Tokens(ids=torch.zeros(5, dtype=torch.long), spans=((0, 0), (0, 2), (3, 7), (7, 8), (0, 0)))
    assert rationale_bits(tokens, [(4, 6)]).tolist() == [IGNORED, 0, 1, 0, IGNORED]
    assert rationale_bits(tokens, []).tolist() == [IGNORED, 1, 1, 1, IGNORED]


def test_the_table_by_hand():
    expected = [0, 0, 0, 1, 2, 2]
    logits = torch.tensor([[9, 0, 0], [9, 0, 0], [0, 0, 9], [0, 9, 0], [0, 0, 9], [9, 0, 0]], dtype=torch.float)
    table = level_table(expected, logits)
    assert table.accuracy == pytest.approx(4 / 6)
    # level 0: 2 hits, 3 expected, 3 predicted; level 1: all; level 2: 1 hit, 2 expected, 2 predicted
    assert table.f1 == pytest.approx((2 / 3, 1.0, 1 / 2))
    assert table.macro_f1 == pytest.approx((2 / 3 + 1 + 1 / 2) / 3)
    assert table.confusion == ((2, 0, 1), (0, 1, 0), (1, 0, 1))
    assert (table.majority_accuracy, table.majority_macro_f1) == pytest.approx((0.5, (2 * 3 / (6 + 3)) / 3))
    sure = float(torch.tensor([9.0, 0, 0]).softmax(0)[0])
    assert table.calibration_error == pytest.approx(sure - 4 / 6, abs=1e-6)
    (only,) = table.bins
    assert (only.count, only.confidence, only.accuracy) == pytest.approx((6, sure, 4 / 6))


def test_a_level_that_is_never_predicted_has_f1_zero():
    assert f1_scores([0, 1], [0, 0], 3) == pytest.approx([2 / 3, 0, 0])
    assert macro_f1([0, 1, 2], [0, 1, 2], 3) == 1.0


def test_rationale_f1_leaves_special_tokens_out():
    expected = torch.tensor([IGNORED, 1, 1, 0, IGNORED])
    predicted = torch.tensor([0, 1, 0, 0, 1])
    # ones: 1 hit of 2 expected, 1 predicted: 2/3; zeros: 1 hit of 1 expected, 2 predicted: 2/3
    assert token_f1(expected, predicted, IGNORED) == pytest.approx(2 / 3)
