"""The frames of an instance: the clips of its history, which the supporter has seen before the response."""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from fires_exp.config.data import FramesConfig, FrameSelection, UnreadableClipPolicy
from fires_exp.data.records import Clip, SupportExample
from fires_exp.data.video.decoder import OpenVideos, Video
from fires_exp.data.video.frame_cache import FrameCache
from fires_exp.data.video.frame_selection import allocate_frames, key_frame_indices, uniform_indices
from fires_exp.data.video.paths import video_identity, video_path
from fires_exp.data.video.salience import check_installed, frame_features, salient_indices
from fires_exp.errors import FrameError

_LOGGER = logging.getLogger("fires_exp.data")
_MAX_OPEN_VIDEOS = 4
_CANDIDATES_IN_MEMORY = 8  # frames at full size


class FrameReader:
    """Reads frames, scaled down to `max_pixels`, through a cache in `cache_folder`. Can be pickled for worker processes.

    Raises `ConfigError` for `frames=salient` without a working OpenCV. `problems` maps each video with an unreadable clip to the
    reason; it stays empty with `frames.on_unreadable=error`, where the first such clip raises `FrameError`.
    """

    def __init__(self, config: FramesConfig, video_root: Path | None, cache_folder: Path) -> None:
        if config.name == FrameSelection.salient:
            check_installed()
        self._config = config
        self._video_root = video_root
        self._cache = FrameCache(cache_folder)
        self._open_videos = OpenVideos(_MAX_OPEN_VIDEOS)
        self._open_errors: dict[str, str] = {}
        self.problems: dict[str, str] = {}

    def frames_of(self, example: SupportExample) -> list[list[Image.Image]]:
        """A list of RGB frames for each turn of the history, in order of time; empty for a turn without frames.

        The newest turns come first if `max_frames` is not enough for all. Raises `DataError` for a video whose name leads out of
        the video root, whatever the configuration.
        """
        root = self._video_root
        if self._config.name == FrameSelection.none or root is None:
            return [[] for _ in example.history]
        counts = allocate_frames(
            [turn.clip is not None for turn in example.history],
            max_frames=self._config.max_frames,
            max_frames_per_turn=self._config.max_frames_per_turn,
        )
        return [
            self._frames_or_none(root, turn.clip, count) if turn.clip is not None and count else []
            for turn, count in zip(example.history, counts, strict=True)
        ]

    def _frames_or_none(self, root: Path, clip: Clip, count: int) -> list[Image.Image]:
        try:
            return self._frames(root, clip, count)
        except FrameError as error:
            if self._config.on_unreadable == UnreadableClipPolicy.error:
                raise FrameError(
                    f"{clip.video}: {error}; replace the file, or write frames.on_unreadable=warn to use text only"
                ) from None
            if clip.video not in self.problems:
                self.problems[clip.video] = str(error)
                _LOGGER.warning("%s: %s; turns with this problem are text only", clip.video, error)
            return []

    def _frames(self, root: Path, clip: Clip, count: int) -> list[Image.Image]:
        path = video_path(root, clip.video)
        identity = video_identity(path)
        if identity is None:
            raise FrameError(f"is not a file in {root}")
        key = self._key(clip, identity, count)
        cached = self._cache.read(key)
        if cached is not None:
            return cached
        video = self._open(clip.video, path, identity)
        indices = self._indices(video, clip, count)
        try:
            if self._config.name == FrameSelection.salient:
                indices = self._most_salient(video, indices, count)
            frames = video.frames(indices)
        except FrameError:
            self._open_videos.drop(path, identity)
            raise
        return self._cache.write(key, [scaled_down(frame, self._config.max_pixels) for frame in frames])

    def _open(self, name: str, path: Path, identity: tuple[int, int]) -> Video:
        """Remembers a video that failed to open: a second attempt may read the whole file again."""
        if name in self._open_errors:
            raise FrameError(self._open_errors[name])
        try:
            return self._open_videos.get(path, identity)
        except FrameError as error:
            self._open_errors[name] = str(error)
            raise

    def _indices(self, video: Video, clip: Clip, count: int) -> list[int]:
        start = max(0.0, clip.start_seconds)
        end = min(clip.end_seconds, video.duration_seconds)
        if end <= start:
            raise FrameError(
                f"the clip from {clip.start_seconds} to {clip.end_seconds} s is outside its {video.duration_seconds:.3f} s"
            )
        if self._config.name == FrameSelection.uniform:
            return uniform_indices(video.start_seconds, start, end, count)
        if self._config.name == FrameSelection.salient:
            salient = self._config.salient
            candidates = min(salient.max_candidates, math.ceil((end - start) * salient.candidates_per_second))
            return uniform_indices(video.start_seconds, start, end, max(count, candidates))
        return key_frame_indices(video.start_seconds, video.key_indices, start, end, count)

    def _most_salient(self, video: Video, candidates: Sequence[int], count: int) -> list[int]:
        chunks = (candidates[first : first + _CANDIDATES_IN_MEMORY] for first in range(0, len(candidates), _CANDIDATES_IN_MEMORY))
        features = [frame_features(frame) for chunk in chunks for frame in video.frames(chunk)]
        return [candidates[index] for index in salient_indices(features, count, self._config.salient)]

    def _key(self, clip: Clip, identity: tuple[int, int], count: int) -> str:
        """A hash of everything that the pixels depend on."""
        facts: list[Any] = [
            clip.video,
            clip.start_seconds,
            clip.end_seconds,
            *identity,
            self._config.name,
            count,
            self._config.max_pixels,
        ]
        if self._config.name == FrameSelection.salient:
            facts.append(asdict(self._config.salient))
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def scaled_down(frame: Image.Image, max_pixels: int) -> Image.Image:
    """The frame with at most about `max_pixels` pixels, in its proportions; a smaller frame is returned as it is.

    >>> scaled_down(Image.new("RGB", (640, 360)), 57600).size
    (320, 180)
    """
    scale = math.sqrt(max_pixels / (frame.width * frame.height))
    if scale >= 1:
        return frame
    return frame.resize((max(1, round(frame.width * scale)), max(1, round(frame.height * scale))), Image.Resampling.BICUBIC)
