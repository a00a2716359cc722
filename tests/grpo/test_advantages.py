"""Eq. 1 on numbers that can be checked by hand."""

import pytest
import torch

from fires_exp.grpo.advantages import group_advantages, tied_groups


def test_population_std_of_one_two_three_four():
    advantages = group_advantages(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), "population")
    # mean 2.5, population variance (2.25 + 0.25 + 0.25 + 2.25) / 4 = 1.25
    expected = torch.tensor([[-1.5, -0.5, 0.5, 1.5]], dtype=torch.float64) / 1.25**0.5
    torch.testing.assert_close(advantages, expected)


def test_sample_std_differs_from_population_by_root_of_four_thirds():
    rewards = torch.tensor([[0.1, 0.5, 0.9, 0.2]])
    ratio = group_advantages(rewards, "population") / group_advantages(rewards, "sample")
    torch.testing.assert_close(ratio, torch.full((1, 4), (4 / 3) ** 0.5, dtype=torch.float64))


def test_without_std_the_mean_is_subtracted_only():
    advantages = group_advantages(torch.tensor([[0.0, 0.4]]), "none")
    torch.testing.assert_close(advantages, torch.tensor([[-0.2, 0.2]], dtype=torch.float64), atol=1e-7, rtol=0)


@pytest.mark.parametrize("std", ["population", "sample", "none"])
@pytest.mark.parametrize("reward", [0.0, 0.1 + 0.3, 0.1 + 0.2 + 0.1, 1.1])
def test_a_group_whose_rewards_agree_has_advantage_exactly_zero(std, reward):
    rewards = torch.full((1, 4), reward, dtype=torch.float64)
    assert tied_groups(rewards).tolist() == [True]
    assert group_advantages(rewards, std).tolist() == [[0.0, 0.0, 0.0, 0.0]]


def test_the_same_reward_summed_in_another_order_is_a_tie():
    rewards = torch.tensor([[0.1 + 0.2 + 0.3, 0.3 + 0.2 + 0.1]], dtype=torch.float64)
    assert rewards[0, 0] != rewards[0, 1]
    assert group_advantages(rewards, "population").tolist() == [[0.0, 0.0]]


def test_a_small_but_real_difference_is_no_tie():
    advantages = group_advantages(torch.tensor([[0.2, 0.2 + 1e-6]], dtype=torch.float64), "population")
    torch.testing.assert_close(advantages, torch.tensor([[-1.0, 1.0]], dtype=torch.float64))


def test_each_prompt_is_normalized_by_its_own_group():
    rewards = torch.tensor([[0.0, 1.0], [5.0, 5.0], [10.0, 20.0]])
    assert group_advantages(rewards, "population").tolist() == [[-1.0, 1.0], [0.0, 0.0], [-1.0, 1.0]]
