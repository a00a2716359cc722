"""Two processes that shard each batch compute what one process computes."""

import importlib.util
from types import SimpleNamespace

import pytest
import torch
from two_ranks import in_ranks, train_all

from fires_exp.distributed import collectives
from fires_exp.grpo.rewards import score_groups
from fires_exp.training.step_loader import FullPassLoader, StepLoader

# without the vision tower: where a gradient is almost zero, Adam turns its rounding error into a full step
SFT = ["sft.micro_batch_size=2", "sft.optimizer.learning_rate=1e-2", "sft.lora.train_vision=false", "sft.validate_every_steps=1"]
GRPO = [
    "grpo.num_generations=3", "grpo.micro_batch_size=2", "grpo.beta=0.04", "grpo.updates_per_rollout=2",
    "grpo.log_completions_every_steps=1", "grpo.optimizer.learning_rate=1e-2",
]  # fmt: skip


OVERRIDES = {
    "sft": SFT,
    "grpo": [*GRPO, "grpo.aggregation=sequence_mean"],
    "grpo by tokens": [*GRPO, "grpo.aggregation=token_mean"],
    "sft by zero2": SFT,
    "grpo by zero2": GRPO,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cache):
    """A folder with the results of one process and of each of two; the two are started only once, which takes longest."""
    folder = tmp_path_factory.mktemp("ranks")
    runs = {name: overrides for name, overrides in OVERRIDES.items() if has_deepspeed() or "zero2" not in name}
    train_all(runs, cache, folder)
    strategies = {name: "zero2" if "zero2" in name else "ddp" for name in runs}
    in_ranks(2, train_all, {name: [*runs[name], f"trainer={strategies[name]}"] for name in runs}, cache, folder)
    return folder


def has_deepspeed():
    return importlib.util.find_spec("deepspeed") is not None


@pytest.fixture(params=OVERRIDES)
def outcomes(request, trained):
    if "zero2" in request.param and not has_deepspeed():
        pytest.skip("deepspeed is not installed")
    return [torch.load(trained / f"{request.param}-{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1")]


def test_gradients_are_those_of_the_full_batch(outcomes, request):
    if "zero2" in request.node.name:
        pytest.skip("DeepSpeed steps with a shard of the gradients")
    single, first, second = (outcome["gradients"] for outcome in outcomes)
    assert len(single) in (3, 6)
    assert all(max(float(gradient.abs().max()) for gradient in step) > 1e-3 for step in single[:2])
    for rank in (first, second):
        for step, expected in zip(rank, single, strict=True):
            for gradient, expected_gradient in zip(step, expected, strict=True):
                torch.testing.assert_close(gradient, expected_gradient, atol=1e-5, rtol=1e-5)


def test_ranks_stay_bit_equal_and_near_one_process(outcomes):
    single, first, second = (outcome["weights"] for outcome in outcomes)
    for name, weight in single.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], weight, atol=1e-4, rtol=0)


def test_a_checkpoint_has_the_full_state_of_the_optimizer(outcomes):
    single, first, second = (outcome["optimizer"] for outcome in outcomes)
    assert first.keys() == single.keys()
    assert first["param_groups"] == single["param_groups"]
    for index, state in single["state"].items():
        for name, value in state.items():
            assert torch.equal(first["state"][index][name], second["state"][index][name])
            torch.testing.assert_close(first["state"][index][name], value, atol=1e-5, rtol=1e-3)


def test_logged_metrics_are_those_of_the_full_batch(outcomes):
    single, first, second = (outcome["rows"] for outcome in outcomes)
    assert first == second
    for row, expected in zip(first, single, strict=True):
        assert row == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_samples_and_rewards_are_those_of_one_process(outcomes):
    single, first, second = (outcome["sampled"] for outcome in outcomes)
    assert single == first == second


def test_shards_cover_all_items_and_their_lengths_differ_by_at_most_one(monkeypatch):
    monkeypatch.setattr(collectives, "world_size", lambda: 3)
    for length, expected in ((7, [2, 2, 3]), (2, [0, 1, 1]), (0, [0, 0, 0])):
        shards = []
        for rank in range(3):
            monkeypatch.setattr(collectives, "rank", lambda rank=rank: rank)
            shards.append(list(collectives.shard(range(length))))
        assert [len(shard) for shard in shards] == expected
        assert [item for shard in shards for item in shard] == list(range(length))


def test_ranks_take_the_same_number_of_steps_for_any_shards(monkeypatch):
    monkeypatch.setattr(collectives, "world_size", lambda: 2)
    loaded = []
    for rank in range(2):
        monkeypatch.setattr(collectives, "rank", lambda rank=rank: rank)
        loaded.append((list(StepLoader([[0, 1, 2], [3]], load=str, prefetch=1)), list(FullPassLoader(3, load=str))))
    assert loaded == [([["0"], []], ["0"]), ([["1", "2"], ["3"]], ["1", "2"])]


def test_a_rank_without_prompts_calls_the_reward_too_because_it_may_be_a_collective():
    calls = []
    reward = SimpleNamespace(score=lambda completions: calls.append(completions) or [])
    assert score_groups([], reward) == []
    assert calls == [[]]


def test_collectives_of_a_single_process_return_their_input():
    assert collectives.all_gather(3) == [3]
    assert collectives.all_sum(1, 2.5) == (1, 2.5)
    assert collectives.broadcast("x") == "x"
    collectives.check_same("anything", 1)
