"""Eq. 2 and 3 on numbers that can be checked by hand, and against a loop that follows the equations sample by sample."""

import math
from dataclasses import replace

import pytest
import torch

from fires_exp.grpo.loss import LossSettings, grpo_loss, token_weights

SETTINGS = LossSettings(
    beta=0.0, ratio_level="token", aggregation="sequence_mean", clip_epsilon_low=None, clip_epsilon_high=None, max_new_tokens=8
)


def loss_of(settings, logprobs, old, ref, advantages, mask):
    return grpo_loss(
        logprobs,
        old_logprobs_BC=old,
        ref_logprobs_BC=ref,
        advantages_B=advantages,
        mask_BC=mask,
        weights_BC=token_weights(mask, settings),
        batch_size=len(mask),
        settings=settings,
    )


def random_batch(seed=0, rows=6, width=5):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, width + 1, (rows,), generator=generator)
    mask = torch.arange(width)[None] < lengths[:, None]
    logprobs, old, ref = (-torch.rand(rows, width, generator=generator, dtype=torch.float64) * 3 for _ in range(3))
    logprobs, old, ref = (values.masked_fill(~mask, 0.0) for values in (logprobs, old, ref))
    advantages = torch.randn(rows, generator=generator, dtype=torch.float64)
    return logprobs.requires_grad_(), old, ref, advantages, mask


def naive_loss(settings, logprobs, old, ref, advantages, mask):
    """Eq. 2 and 3 one completion and one token at a time."""
    total = torch.zeros((), dtype=torch.float64)
    tokens_in_batch = int(mask.sum())
    for b in range(len(mask)):
        length = int(mask[b].sum())
        sequence_ratio = (logprobs[b, :length] - old[b, :length]).sum().exp()

        def gain(ratio, advantage=advantages[b]):
            if settings.clip_epsilon_low is None:
                return ratio * advantage
            clipped = min(max(ratio, 1 - settings.clip_epsilon_low), 1 + settings.clip_epsilon_high)
            return min(ratio * advantage, clipped * advantage)

        if settings.ratio_level == "sequence":
            total = total - gain(sequence_ratio) / len(mask)
        for t in range(length):
            weight = {
                "sequence_mean": 1 / length / len(mask),
                "token_mean": 1 / tokens_in_batch,
                "constant": 1 / (len(mask) * settings.max_new_tokens),
            }[settings.aggregation]
            if settings.ratio_level == "token":
                total = total - weight * gain((logprobs[b, t] - old[b, t]).exp())
            difference = ref[b, t] - logprobs[b, t]
            total = total + settings.beta * weight * (difference.exp() - difference - 1)
    return total


@pytest.mark.parametrize("aggregation", ["sequence_mean", "token_mean", "constant"])
@pytest.mark.parametrize("ratio_level", ["token", "sequence"])
@pytest.mark.parametrize("clip", [None, 0.2])
@pytest.mark.parametrize("beta", [0.0, 0.04])
def test_loss_and_gradient_equal_a_naive_per_sample_loop(aggregation, ratio_level, clip, beta):
    settings = replace(
        SETTINGS, aggregation=aggregation, ratio_level=ratio_level, clip_epsilon_low=clip, clip_epsilon_high=clip, beta=beta
    )
    logprobs, old, ref, advantages, mask = random_batch()
    loss = loss_of(settings, logprobs, old, ref, advantages, mask).loss
    (gradient,) = torch.autograd.grad(loss, logprobs)
    expected = naive_loss(settings, logprobs, old, ref, advantages, mask)
    (expected_gradient,) = torch.autograd.grad(expected, logprobs)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-12, atol=1e-14)


def test_on_policy_loss_is_minus_the_mean_advantage_and_its_gradient_is_the_policy_gradient():
    logprobs = torch.tensor([[-1.0, -2.0], [-0.5, 0.0]], dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[True, True], [True, False]])
    advantages = torch.tensor([1.0, -1.0], dtype=torch.float64)
    terms = loss_of(SETTINGS, logprobs, logprobs.detach(), None, advantages, mask)
    terms.loss.backward()
    assert terms.loss.item() == 0.0  # -(1 - 1) / 2
    # -A / length / B: the first completion's two tokens share 1/2, the only token of the second has all of it
    assert logprobs.grad.tolist() == [[-0.25, -0.25], [0.5, 0.0]]
    assert float(terms.largest_ratio_gap) == 0.0


def test_tied_groups_without_kl_have_zero_gradient():
    logprobs, old, _, _, mask = random_batch()
    terms = loss_of(SETTINGS, logprobs, old, None, torch.zeros(6, dtype=torch.float64), mask)
    terms.loss.backward()
    assert torch.count_nonzero(logprobs.grad) == 0


def test_tied_groups_with_kl_have_the_kl_gradient_only():
    settings = replace(SETTINGS, beta=0.5)
    logprobs, _, ref, _, mask = random_batch()
    terms = loss_of(settings, logprobs, logprobs.detach(), ref, torch.zeros(6, dtype=torch.float64), mask)
    terms.loss.backward()
    # d/dx of exp(r - x) - (r - x) - 1 is 1 - exp(r - x)
    expected = 0.5 * token_weights(mask, settings) * (1 - (ref - logprobs.detach()).exp())
    torch.testing.assert_close(logprobs.grad, expected)


def test_k3_kl_of_a_token_twice_as_likely_under_the_reference():
    settings = replace(SETTINGS, beta=1.0)
    logprobs = torch.zeros(1, 1, dtype=torch.float64)
    ref = torch.full((1, 1), math.log(2), dtype=torch.float64)
    terms = loss_of(settings, logprobs, logprobs, ref, torch.zeros(1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.bool))
    assert float(terms.loss) == pytest.approx(2 - math.log(2) - 1)
    assert float(terms.kl_sum) == pytest.approx(2 - math.log(2) - 1)


def test_sequence_ratio_is_the_product_of_token_ratios_as_eq_3_prints_it():
    settings = replace(SETTINGS, ratio_level="sequence")
    old = torch.zeros(1, 2, dtype=torch.float64)
    logprobs = torch.tensor([[math.log(2), math.log(3)]], dtype=torch.float64)
    mask = torch.ones(1, 2, dtype=torch.bool)
    assert float(loss_of(settings, logprobs, old, None, torch.ones(1, dtype=torch.float64), mask).loss) == pytest.approx(-6.0)


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_clipping_counts_tokens_whose_ratio_left_the_band_in_the_rewarded_direction(level):
    settings = replace(SETTINGS, clip_epsilon_low=0.2, clip_epsilon_high=0.2, ratio_level=level)
    old = torch.zeros(2, 1, dtype=torch.float64)
    logprobs = torch.tensor([[math.log(1.5)], [math.log(1.5)]], dtype=torch.float64, requires_grad=True)
    mask = torch.ones(2, 1, dtype=torch.bool)
    terms = loss_of(settings, logprobs, old, None, torch.tensor([1.0, -1.0], dtype=torch.float64), mask)
    terms.loss.backward()
    assert float(terms.clipped_sum) == 1.0  # the second ratio is too large as well, but reducing it raises the objective
    assert logprobs.grad.tolist() == [[0.0], [0.75]]
    assert float(terms.loss.detach()) == pytest.approx((-1.2 + 1.5) / 2)


@pytest.mark.parametrize("aggregation", ["sequence_mean", "token_mean", "constant"])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_micro_batches_add_up_to_the_whole_batch(aggregation, level):
    settings = replace(SETTINGS, aggregation=aggregation, ratio_level=level, beta=0.1)
    logprobs, old, ref, advantages, mask = random_batch(seed=3)
    whole = loss_of(settings, logprobs, old, ref, advantages, mask).loss
    weights = token_weights(mask, settings)
    parts = [
        grpo_loss(
            logprobs[rows],
            old_logprobs_BC=old[rows],
            ref_logprobs_BC=ref[rows],
            advantages_B=advantages[rows],
            mask_BC=mask[rows],
            weights_BC=weights[rows],
            batch_size=6,
            settings=settings,
        ).loss
        for rows in (slice(0, 1), slice(1, 4), slice(4, 6))
    ]
    torch.testing.assert_close(sum(parts), whole)


def test_token_weights_by_hand():
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    by_sequence = token_weights(mask, SETTINGS)
    assert by_sequence.tolist() == [[1 / 6, 1 / 6, 1 / 6, 0.0], [0.5, 0.0, 0.0, 0.0]]
    by_token = token_weights(mask, replace(SETTINGS, aggregation="token_mean"))
    assert by_token.tolist() == [[0.25, 0.25, 0.25, 0.0], [0.25, 0.0, 0.0, 0.0]]
    constant = token_weights(mask, replace(SETTINGS, aggregation="constant"))
    assert constant.tolist() == [[1 / 16, 1 / 16, 1 / 16, 0.0], [1 / 16, 0.0, 0.0, 0.0]]
