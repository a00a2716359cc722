"""The order of training."""

from fires_exp.modules.batches import StepLoader, step_plan


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


def test_a_loader_goes_on_where_its_state_says():
    plan = [[0, 1], [2], [3, 4]]
    loader = StepLoader(plan, load=str)
    steps = iter(loader)
    assert next(steps) == ["0", "1"]
    state = loader.state_dict()
    other = StepLoader(plan, load=str)
    other.load_state_dict(state)
    assert list(other) == [["2"], ["3", "4"]]
    assert len(other) == 3
