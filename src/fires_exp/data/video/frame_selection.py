"""Which frames are seen: how many a turn gets, and which of its span."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def share_out(has_clip: Sequence[bool], *, max_frames: int, max_frames_per_turn: int) -> list[int]:
    """How many frames each turn of a history may show: one each in turn, the newest turn first, until none is left.

    >>> share_out([True, False, True, True], max_frames=4, max_frames_per_turn=2)
    [1, 0, 1, 2]
    """
    shares = [0] * len(has_clip)
    newest_first = [index for index in reversed(range(len(has_clip))) if has_clip[index]]
    left = max_frames
    for _ in range(max_frames_per_turn):
        for index in newest_first[:left]:
            shares[index] += 1
        left -= min(left, len(newest_first))
    return shares


def uniform_indices(starts: NDArray[np.float64], start_seconds: float, end_seconds: float, count: int) -> list[int]:
    """The frames shown in the middle of each of `count` equal pieces of a span; fewer where pieces share a frame.

    `starts` are the times, in seconds, at which the video's frames begin.
    """
    middles = start_seconds + (np.arange(count) + 0.5) * (end_seconds - start_seconds) / count
    return sorted({max(0, int(index)) for index in np.searchsorted(starts, middles, side="right") - 1})


def key_frame_indices(
    starts: NDArray[np.float64], key_indices: Sequence[int], start_seconds: float, end_seconds: float, count: int
) -> list[int]:
    """The key frames that begin in a span, evenly thinned to `count`.

    Most short spans hold none, since an encoder sets one every few seconds: such a span gets uniform frames.
    """
    inside = [index for index in key_indices if start_seconds <= starts[index] < end_seconds]
    if not inside:
        return uniform_indices(starts, start_seconds, end_seconds, count)
    return thinned(inside, count)


def thinned(indices: Sequence[int], count: int) -> list[int]:
    """At most `count` of the indices: the middle one of each of `count` equal pieces of the list.

    >>> thinned([0, 10, 20, 30, 40, 50], 2)
    [10, 40]
    """
    if len(indices) <= count:
        return list(indices)
    return [indices[(2 * piece + 1) * len(indices) // (2 * count)] for piece in range(count)]
