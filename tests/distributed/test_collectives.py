"""Two processes with a share of each batch are one process with all of it."""

import importlib.util
from types import SimpleNamespace

import pytest
import torch
from two_ranks import in_ranks, train_all

from fires_exp.distributed import collectives
from fires_exp.grpo.rewards import score_groups
from fires_exp.training.step_loader import FullPassLoader, StepLoader

# without the tower: Adam makes steps of full size out of rounding where a patch has next to no gradient
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
    """A folder with what one process found, and each of two; the two are started once, since that takes longest."""
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


def test_gradients_are_those_of_the_whole_batch(outcomes, request):
    if "zero2" in request.node.name:
        pytest.skip("what DeepSpeed steps with is a part of all gradients")
    one, first, second = (outcome["gradients"] for outcome in outcomes)
    assert len(one) in (3, 6)
    assert all(max(float(gradient.abs().max()) for gradient in step) > 1e-3 for step in one[:2])
    for rank in (first, second):
        for step, expected in zip(rank, one, strict=True):
            for gradient, whole in zip(step, expected, strict=True):
                torch.testing.assert_close(gradient, whole, atol=1e-5, rtol=1e-5)


def test_ranks_stay_bit_equal_and_near_one_process(outcomes):
    one, first, second = (outcome["weights"] for outcome in outcomes)
    for name, weight in one.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], weight, atol=1e-4, rtol=0)


def test_a_checkpoint_has_the_whole_state_of_the_optimizer(outcomes):
    one, first, second = (outcome["optimizer"] for outcome in outcomes)
    assert first.keys() == one.keys()
    assert first["param_groups"] == one["param_groups"]
    for place, state in one["state"].items():
        for name, value in state.items():
            assert torch.equal(first["state"][place][name], second["state"][place][name])
            torch.testing.assert_close(first["state"][place][name], value, atol=1e-5, rtol=1e-3)


def test_what_is_logged_tells_of_the_whole_batch(outcomes):
    one, first, second = (outcome["rows"] for outcome in outcomes)
    assert first == second
    for row, expected in zip(first, one, strict=True):
        assert row == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_samples_and_rewards_are_those_of_one_process(outcomes):
    one, first, second = (outcome["sampled"] for outcome in outcomes)
    assert one == first == second


def test_shares_make_up_the_whole_and_differ_by_one_at_most(monkeypatch):
    monkeypatch.setattr(collectives, "world_size", lambda: 3)
    for length, expected in ((7, [2, 2, 3]), (2, [0, 1, 1]), (0, [0, 0, 0])):
        shares = []
        for rank in range(3):
            monkeypatch.setattr(collectives, "rank", lambda rank=rank: rank)
            shares.append(list(collectives.shard(range(length))))
        assert [len(share) for share in shares] == expected
        assert [item for share in shares for item in share] == list(range(length))


def test_ranks_take_equally_many_steps_whatever_their_shares(monkeypatch):
    monkeypatch.setattr(collectives, "world_size", lambda: 2)
    seen = []
    for rank in range(2):
        monkeypatch.setattr(collectives, "rank", lambda rank=rank: rank)
        seen.append((list(StepLoader([[0, 1, 2], [3]], load=str, prefetch=1)), list(FullPassLoader(3, load=str))))
    assert seen == [([["0"], []], ["0"]), ([["1", "2"], ["3"]], ["1", "2"])]


def test_a_rank_without_a_prompt_asks_the_reward_too_which_may_be_a_meeting():
    asked = []
    reward = SimpleNamespace(score=lambda answers: asked.append(answers) or [])
    assert score_groups([], reward) == []
    assert asked == [[]]


def test_one_process_alone_gives_back_what_it_gets():
    assert collectives.all_gather(3) == [3]
    assert collectives.all_sum(1, 2.5) == (1, 2.5)
    assert collectives.broadcast("x") == "x"
    collectives.check_same("anything", 1)
