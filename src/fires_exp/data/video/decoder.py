"""An open video: the times of its frames, its key frames, and their pixels."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fires_exp.errors import FrameError


class Video:
    """An open video file. Every method raises `FrameError` if the file cannot be decoded; messages do not name the file.

    `start_seconds`, [F]: the times at which the frames begin. `key_indices`: the key frames, sorted.
    """

    def __init__(self, path: Path) -> None:
        import decord

        decord.logging.set_level(decord.logging.QUIET)
        self._errors = (RuntimeError, decord.DECORDError)
        try:
            self._reader: Any = decord.VideoReader(str(path), num_threads=1)  # the default starts four threads per reader
            times = np.asarray(self._reader.get_frame_timestamp(range(len(self._reader))), dtype=np.float64)
            self.key_indices: list[int] = sorted(int(index) for index in self._reader.get_key_indices())
        except self._errors as error:
            raise FrameError(f"cannot be opened as a video ({_reason(error)})") from None
        if not len(times):
            raise FrameError("has no frames")
        self.start_seconds: NDArray[np.float64] = times[:, 0]
        self.duration_seconds = float(times[-1, 1])

    def frames(self, indices: Sequence[int]) -> list[Image.Image]:
        """The frames of these indices, in their order, RGB, at their stored size.

        The decoder reads ahead in a thread of its own, so that a damaged part may raise an error slightly before its frames.
        """
        try:
            pixels = self._reader.get_batch(list(indices)).asnumpy()
        except self._errors as error:
            raise FrameError(f"cannot be decoded ({_reason(error)})") from None
        return [Image.fromarray(frame) for frame in pixels]


class OpenVideos:
    """Keeps the last `capacity` videos open, since opening a video reads the whole file once.

    A forked worker opens its own: two processes that share a file position would read each other's frames.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._process = os.getpid()
        self._videos: OrderedDict[tuple[Path, object], Video] = OrderedDict()

    def get(self, path: Path, identity: object) -> Video:
        """The video at `path`. A changed file has another `identity` and is opened again."""
        if self._process != os.getpid():
            self._videos, self._process = OrderedDict(), os.getpid()
        video = self._videos.pop((path, identity), None) or Video(path)
        self._videos[path, identity] = video
        while len(self._videos) > self._capacity:
            self._videos.popitem(last=False)
        return video

    def drop(self, path: Path, identity: object) -> None:
        """Close a video: after an error the state of its decoder is undefined."""
        self._videos.pop((path, identity), None)

    def __reduce__(self) -> tuple[type[OpenVideos], tuple[int]]:
        return OpenVideos, (self._capacity,)  # a copy in another process starts without open videos


def _reason(error: Exception) -> str:
    """The first line of decord's message, without its time stamp and source location."""
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return re.sub(r"^(\[[\d:]+\] \S+: )+", "", first_line)
