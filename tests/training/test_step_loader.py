"""The order of training."""

import threading

import pytest

from fires_exp.errors import DataError
from fires_exp.training.step_loader import StepLoader, step_plan


def test_every_epoch_sees_each_instance_once_in_a_new_order():
    plan = step_plan(10, batch_size=4, epochs=2, max_steps=None, seed=42)
    assert [len(step) for step in plan] == [4, 4, 2, 4, 4, 2]
    first, second = [[index for step in plan[start : start + 3] for index in step] for start in (0, 3)]
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert plan == step_plan(10, batch_size=4, epochs=2, max_steps=None, seed=42)
    assert plan != step_plan(10, batch_size=4, epochs=2, max_steps=None, seed=43)


def test_a_shorter_run_is_the_beginning_of_a_longer_one():
    assert (
        step_plan(10, batch_size=4, epochs=9, max_steps=5, seed=1)
        == step_plan(10, batch_size=4, epochs=9, max_steps=None, seed=1)[:5]
    )


@pytest.mark.parametrize("prefetch", [0, 1, 5])
def test_a_loader_resumes_from_its_state(prefetch):
    plan = [[0, 1], [2], [3, 4]]
    loader = StepLoader(plan, load=str, prefetch=prefetch)
    steps = iter(loader)
    assert next(steps) == ["0", "1"]
    state = loader.state_dict()
    other = StepLoader(plan, load=str, prefetch=prefetch)
    other.load_state_dict(state)
    assert list(other) == [["2"], ["3", "4"]]
    assert len(other) == 3


@pytest.mark.parametrize("prefetch", [1, 2])
def test_the_next_steps_are_prefetched_in_one_thread(prefetch):
    loaded = [threading.Event() for _ in range(5)]
    threads = set()

    def load(index):
        threads.add(threading.current_thread())
        loaded[index].set()
        return index

    steps = iter(StepLoader([[index] for index in range(5)], load, prefetch=prefetch))
    assert next(steps) == [0]
    assert all(event.wait(timeout=60) for event in loaded[: 1 + prefetch])
    assert not any(event.is_set() for event in loaded[1 + prefetch :])
    assert [*steps] == [[1], [2], [3], [4]]
    assert len(threads) == 1
    assert threading.current_thread() not in threads


def test_an_exception_of_load_is_raised_when_its_step_is_reached():
    def load(index):
        if index == 1:
            raise DataError("row 1 is broken")
        return index

    steps = iter(StepLoader([[0], [1], [2]], load, prefetch=2))
    assert next(steps) == [0]
    with pytest.raises(DataError, match="row 1 is broken"):
        next(steps)
