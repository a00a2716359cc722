from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fires_exp.data.video.frame_selection import allocate_frames, key_frame_indices, thin_evenly, uniform_indices

STARTS = np.arange(100) / 10  # ten seconds at ten frames a second


@pytest.mark.parametrize(
    ("has_clip", "max_frames", "max_frames_per_turn", "counts"),
    [
        ([True, True, True], 4, 2, [1, 1, 2]),
        ([True, True, True], 2, 2, [0, 1, 1]),
        ([True, False, True], 16, 4, [4, 0, 4]),
        ([True, True], 3, 1, [1, 1]),
        ([False], 16, 4, [0]),
        ([], 16, 4, []),
    ],
)
def test_every_turn_gets_a_frame_in_each_round_the_newest_turn_first(
    has_clip: list[bool], max_frames: int, max_frames_per_turn: int, counts: list[int]
) -> None:
    assert allocate_frames(has_clip, max_frames=max_frames, max_frames_per_turn=max_frames_per_turn) == counts


@given(has_clip=st.lists(st.booleans(), max_size=40), max_frames=st.integers(1, 64), max_frames_per_turn=st.integers(1, 16))
def test_both_limits_are_used_up(has_clip: list[bool], max_frames: int, max_frames_per_turn: int) -> None:
    counts = allocate_frames(has_clip, max_frames=max_frames, max_frames_per_turn=max_frames_per_turn)
    assert sum(counts) == min(max_frames, max_frames_per_turn * sum(has_clip))
    assert max(counts, default=0) <= max_frames_per_turn
    assert all(clip or not count for clip, count in zip(has_clip, counts, strict=True))


def test_uniform_frames_are_at_the_middle_of_equal_parts() -> None:
    assert uniform_indices(STARTS, 2.0, 6.0, 4) == [25, 35, 45, 55]


def test_a_span_with_fewer_frames_than_requested_gives_each_frame_once() -> None:
    assert uniform_indices(STARTS, 2.01, 2.19, 4) == [20, 21]


def test_uniform_frames_of_uneven_length_are_selected_by_time() -> None:
    assert uniform_indices(np.array([0.0, 5.0, 5.1, 9.0]), 4.0, 10.0, 3) == [1, 2, 3]


def test_a_span_before_the_first_frame_gives_the_first() -> None:
    assert uniform_indices(np.array([1.0, 2.0]), 0.0, 0.5, 2) == [0]


def test_key_frames_are_those_that_begin_in_the_span() -> None:
    assert key_frame_indices(STARTS, [0, 20, 40, 60, 80], 2.0, 6.0, 4) == [20, 40]


def test_a_span_without_a_key_frame_gets_uniform_frames() -> None:
    assert key_frame_indices(STARTS, [0, 20, 40], 2.1, 3.9, 2) == uniform_indices(STARTS, 2.1, 3.9, 2) == [25, 34]


def test_too_many_key_frames_are_thinned_evenly() -> None:
    assert key_frame_indices(STARTS, list(range(0, 100, 10)), 0.0, 6.0, 3) == [10, 30, 50]
    assert thin_evenly([3, 5, 7], 1) == [5]
    assert thin_evenly([3, 5, 7], 3) == [3, 5, 7]
