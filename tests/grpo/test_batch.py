"""Micro-batches of a step: rows, masks and weights by hand."""

from types import SimpleNamespace

import pytest
import torch
from making import make_example

from fires_exp.distributed import collectives
from fires_exp.grpo.batch import RolloutBatch, cut_micro_batches
from fires_exp.grpo.loss import LossSettings
from fires_exp.grpo.rewards import RewardBreakdown
from fires_exp.grpo.rollouts import Rollout, RolloutGroup
from fires_exp.policy.completion import Completion
from fires_exp.thinking.tags import ParsedCompletion

SETTINGS = LossSettings(
    beta=0.0, ratio_level="token", aggregation="token_mean", clip_epsilon_low=None, clip_epsilon_high=None, max_new_tokens=8
)


def group(name, lengths):
    rollouts = [
        Rollout(
            completion=Completion(
                ids=torch.full((length,), 5), logprobs=torch.full((length,), -0.5), text=name, finish_reason="stop"
            ),
            parsed=ParsedCompletion(thought="", response=name, well_formed=True),
        )
        for length in lengths
    ]
    return RolloutGroup(prompt=SimpleNamespace(example=make_example(name)), rollouts=tuple(rollouts))


def breakdown(total):
    return RewardBreakdown(total=total, format=1.0, consistency=total, support_skill=None, judge=None)


def cut(groups, own_groups, micro_batch_size=2):
    return cut_micro_batches(groups, own_groups, micro_batch_size=micro_batch_size, settings=SETTINGS, device=torch.device("cpu"))


def test_micro_batches_are_parts_of_one_group_with_the_weights_of_the_full_batch():
    groups = [group("a", [1, 2, 1]), group("b", [3, 1, 2])]
    parts = cut(groups, groups)
    assert [(part.rows.start, part.rows.stop) for part in parts] == [(0, 2), (2, 3), (3, 5), (5, 6)]
    assert [part.prompt.example.id for part in parts] == ["a", "a", "b", "b"]
    assert [part.mask_BC.tolist() for part in parts[:2]] == [[[True, False], [True, True]], [[True]]]
    # 10 tokens in all
    assert parts[0].weights_BC.tolist() == [[0.1, 0.0], [0.1, 0.1]]
    assert parts[2].sampled_logprobs_BC.tolist() == [[-0.5, -0.5, -0.5], [-0.5, 0.0, 0.0]]
    assert [len(ids) for ids in parts[3].completion_ids] == [2]


def test_a_rank_has_the_rows_of_its_shard_and_weights_of_all_ranks(monkeypatch):
    groups = [group("a", [1, 1]), group("b", [2, 1]), group("c", [4, 1])]
    monkeypatch.setattr(collectives, "world_size", lambda: 2)
    monkeypatch.setattr(collectives, "rank", lambda: 1)
    parts = cut(groups, groups[1:])
    assert [(part.prompt.example.id, part.rows.start) for part in parts] == [("b", 2), ("c", 4)]
    assert parts[0].weights_BC.tolist() == [[0.1, 0.1], [0.1, 0.0]]


def test_a_batch_counts_all_completions_and_tokens():
    groups = (group("a", [1, 2]), group("b", [3, 1]))
    rewards = ((breakdown(0.1), breakdown(0.2)), (breakdown(0.3), breakdown(0.4)))
    batch = RolloutBatch(groups=groups, rewards=rewards, micro_batches=cut(groups, groups))
    assert (batch.size, batch.token_count) == (4, 7)
    assert batch.total_rewards.tolist() == [[0.1, 0.2], [0.3, 0.4]]
    assert batch.own_example_ids == ["a", "b"]


def test_rewards_that_do_not_match_the_groups_are_refused():
    with pytest.raises(AssertionError):
        RolloutBatch(groups=(group("a", [1, 2]),), rewards=((breakdown(0.1),),), micro_batches=())
