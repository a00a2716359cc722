"""The step benchmark: both sides get the same work, time is counted once, and a side that does less is detected."""

import copy
import mmap
import sys

import grpo_step
import pytest
import step_clock
from step_clock import PARTS, StepClock
from step_task import PLAN, SHAPES, Shape, StepTask, prompts_of_round, weights_fingerprint

from fires_exp.prompts.processor import PromptEncoder


@pytest.fixture
def task():
    return StepTask(
        shape=Shape(prompt_tokens=160, frames=2, frame_width=56, frame_height=56), backbone="tiny", device="cpu", dtype="float32",
        prompts=2, generations=2, new_tokens=4, rounds=2, checkpointing=False, threads=1, seed=0,
    )  # fmt: skip


def encoded(task, tiny, index):
    encoder = PromptEncoder(tiny.processor, PLAN, task.shape.prompt_tokens)
    return [encoder.encode(raw.example, raw.frames) for raw in prompts_of_round(task, tiny.processor, index)]


def test_prompts_have_the_requested_size_and_differ_between_rounds(task, tiny):
    first, second, again = (encoded(task, tiny, index) for index in (0, 1, 0))
    for prompt in (*first, *second):
        assert 150 <= len(prompt.prompt_ids) <= 160
        assert prompt.dropped_turns == 0
        assert prompt.image_grid_thw.tolist() == [[1, 4, 4], [1, 4, 4]]
    assert len({tuple(prompt.prompt_ids.tolist()) for prompt in (*first, *second)}) == 4
    for prompt, repeated in zip(first, again, strict=True):
        assert prompt.prompt_ids.equal(repeated.prompt_ids)
        assert prompt.pixel_values.equal(repeated.pixel_values)


def test_a_task_is_equal_after_json(task):
    assert StepTask.from_json(task.to_json()) == task
    assert SHAPES["frames"].frames == 16


def test_one_changed_weight_changes_the_fingerprint(tiny):
    before = weights_fingerprint(tiny.model)
    assert weights_fingerprint(copy.deepcopy(tiny.model)) == before
    next(tiny.model.parameters()).data[0] += 1e-3
    assert weights_fingerprint(tiny.model) != before


def test_the_time_of_an_inner_part_is_not_counted_in_the_outer_one(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(step_clock.time, "perf_counter", lambda: now[0])
    clock = StepClock("cpu")
    with clock.part("sampling"):  # before the step: not counted
        now[0] += 100
    clock.start()
    now[0] += 1
    with clock.part("sampling"):
        now[0] += 2
        with clock.part("preparing"):
            now[0] += 4
        now[0] += 8
    with clock.part("backward"):
        now[0] += 16
    now[0] += 32
    report = clock.stop()
    parts = {"preparing": 4, "sampling": 10, "scoring": 33, "backward": 16, "optimizer": 0}
    assert report.seconds == parts | {"whole": 63}


def test_peak_memory_is_charged_to_the_part_that_needed_it():
    clock = StepClock("cpu")
    clock.start()
    with clock.part("backward"), mmap.mmap(-1, 256 * 2**20) as block:  # unlike the heap, a map is released when it is freed
        block[::4096] = bytes(len(block) // 4096)
    report = clock.stop()
    assert report.peak_bytes["backward"] - report.resting_bytes >= 250 * 2**20
    assert report.peak_bytes["scoring"] - report.resting_bytes < 100 * 2**20
    assert report.peak_bytes["whole"] == report.peak_bytes["backward"]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"prompts_fingerprint": "other"}, "different prompts"), ({"completion_tokens": [4, 4, 3, 4]}, "not all 4")],
)
def test_sides_that_did_different_work_are_not_compared(task, change, message):
    report = {"prompts_fingerprint": "same", "prompt_tokens": [160, 160], "completion_tokens": [4, 4, 4, 4]}
    grpo_step.check_same_work([report, report], task)
    with pytest.raises(SystemExit, match=message):
        grpo_step.check_same_work([report, report | change], task)


def test_our_side_runs_its_rounds_and_fills_the_table(task, cache, monkeypatch):
    monkeypatch.setenv("FIRES_EXP_CACHE", str(cache))
    result = grpo_step.measure(task, {"our": sys.executable}, "test")
    seconds = result["seconds"]["our"]
    assert all(seconds[part] > 0 for part in PARTS)
    assert seconds["whole"] == pytest.approx(sum(seconds[part] for part in PARTS))
    assert len(result["rounds"]["our"]) == 1  # two, the first of which is the warm-up
    assert result["times_floor"] > 1
    lines = grpo_step.table(result).splitlines()
    assert lines[0].startswith("tiny on cpu, float32, 2 x ")
    assert [line.split()[0] for line in lines[2:-1]] == [*PARTS, "whole"]
