"""The choice of frames: their number for each turn, and their indices in the turn's span."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def allocate_frames(has_clip: Sequence[bool], *, max_frames: int, max_frames_per_turn: int) -> list[int]:
    """The number of frames of each turn of a history: in each round every turn with a clip gets one, the newest turn first.

    >>> allocate_frames([True, False, True, True], max_frames=4, max_frames_per_turn=2)
    [1, 0, 1, 2]
    """
    counts = [0] * len(has_clip)
    newest_first = [index for index in reversed(range(len(has_clip))) if has_clip[index]]
    remaining = max_frames
    for _ in range(max_frames_per_turn):
        for index in newest_first[:remaining]:
            counts[index] += 1
        remaining -= min(remaining, len(newest_first))
    return counts


def uniform_indices(starts: NDArray[np.float64], start_seconds: float, end_seconds: float, count: int) -> list[int]:
    """The frames at the middle of each of `count` equal parts of a span; fewer if parts share a frame.

    `starts`, [F]: the times at which the video's frames begin, in seconds.
    """
    middles = start_seconds + (np.arange(count) + 0.5) * (end_seconds - start_seconds) / count
    return sorted({max(0, int(index)) for index in np.searchsorted(starts, middles, side="right") - 1})


def key_frame_indices(
    starts: NDArray[np.float64], key_indices: Sequence[int], start_seconds: float, end_seconds: float, count: int
) -> list[int]:
    """The key frames that begin in a span, evenly thinned to `count`; uniform frames if there is none.

    Most short spans have none, since encoders write one key frame every few seconds. `starts`: as in `uniform_indices`.
    """
    inside = [index for index in key_indices if start_seconds <= starts[index] < end_seconds]
    if not inside:
        return uniform_indices(starts, start_seconds, end_seconds, count)
    return thin_evenly(inside, count)


def thin_evenly(indices: Sequence[int], count: int) -> list[int]:
    """At most `count` of the indices: the middle one of each of `count` equal parts of the list.

    >>> thin_evenly([0, 10, 20, 30, 40, 50], 2)
    [10, 40]
    """
    if len(indices) <= count:
        return list(indices)
    return [indices[(2 * part + 1) * len(indices) // (2 * count)] for part in range(count)]
