"""The frames of an instance: what the supporter could see while the history was spoken."""

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

from fires_exp.config.data import FramesConfig
from fires_exp.data.records import Clip, SupportExample
from fires_exp.data.video.decoder import OpenVideos, Video
from fires_exp.data.video.frame_cache import FrameCache
from fires_exp.data.video.frame_selection import key_frame_indices, share_out, uniform_indices
from fires_exp.data.video.paths import video_identity, video_path
from fires_exp.data.video.salience import check_installed, look_at, salient_places
from fires_exp.errors import FrameError

_LOGGER = logging.getLogger("fires_exp.data")
_VIDEOS_KEPT_OPEN = 4
_FRAMES_IN_MEMORY = 8  # of those that are only looked at, at full size


class FrameReader:
    """Reads frames, scaled down to `max_pixels`, through a cache below `cache_folder`. Can be handed to worker processes.

    Raises `ConfigError` for `frames=salient` without a working OpenCV. `problems` names each video of which a clip could not be
    read and says why; it stays empty with `frames.on_unreadable=error`, where the first such clip raises `FrameError`.
    """

    def __init__(self, config: FramesConfig, video_root: Path | None, cache_folder: Path) -> None:
        if config.name == "salient":
            check_installed()
        self._config = config
        self._video_root = video_root
        self._cache = FrameCache(cache_folder)
        self._open_videos = OpenVideos(_VIDEOS_KEPT_OPEN)
        self._never_opens: dict[str, str] = {}
        self.problems: dict[str, str] = {}

    def frames_of(self, example: SupportExample) -> list[list[Image.Image]]:
        """One list of RGB frames for each turn of the history, in the order of time; empty for a turn that shows none.

        The newest turns come first where `max_frames` does not reach for all. `DataError` for a video whose name leads out of
        the video root, whatever the configuration.
        """
        root = self._video_root
        if self._config.name == "none" or root is None:
            return [[] for _ in example.history]
        shares = share_out(
            [turn.clip is not None for turn in example.history],
            max_frames=self._config.max_frames,
            max_frames_per_turn=self._config.max_frames_per_turn,
        )
        return [
            self._frames_or_none(root, turn.clip, share) if turn.clip is not None and share else []
            for turn, share in zip(example.history, shares, strict=True)
        ]

    def _frames_or_none(self, root: Path, clip: Clip, share: int) -> list[Image.Image]:
        try:
            return self._frames(root, clip, share)
        except FrameError as error:
            if self._config.on_unreadable == "error":
                raise FrameError(f"{clip.video}: {error}; mend it, or write frames.on_unreadable=warn") from None
            if clip.video not in self.problems:
                self.problems[clip.video] = str(error)
                _LOGGER.warning("%s: %s; such turns are text only", clip.video, error)
            return []

    def _frames(self, root: Path, clip: Clip, share: int) -> list[Image.Image]:
        path = video_path(root, clip.video)
        identity = video_identity(path)
        if identity is None:
            raise FrameError(f"no such file in {root}")
        key = self._key(clip, identity, share)
        cached = self._cache.read(key)
        if cached is not None:
            return cached
        video = self._opened(clip.video, path, identity)
        indices = self._indices(video, clip, share)
        try:
            if self._config.name == "salient":
                indices = self._most_salient(video, indices, share)
            frames = video.frames(indices)
        except FrameError:
            self._open_videos.drop(path, identity)
            raise
        return self._cache.write(key, [scaled_down(frame, self._config.max_pixels) for frame in frames])

    def _opened(self, name: str, path: Path, identity: tuple[int, int]) -> Video:
        """A video that failed to open is not tried again: finding out may take reading the whole file."""
        if name in self._never_opens:
            raise FrameError(self._never_opens[name])
        try:
            return self._open_videos.get(path, identity)
        except FrameError as error:
            self._never_opens[name] = str(error)
            raise

    def _indices(self, video: Video, clip: Clip, share: int) -> list[int]:
        start = max(0.0, clip.start_seconds)
        end = min(clip.end_seconds, video.duration_seconds)
        if end <= start:
            raise FrameError(
                f"the clip from {clip.start_seconds} to {clip.end_seconds} s lies outside its {video.duration_seconds:.3f} s"
            )
        if self._config.name == "uniform":
            return uniform_indices(video.start_seconds, start, end, share)
        if self._config.name == "salient":
            salient = self._config.salient
            looked_at = min(salient.max_candidates, math.ceil((end - start) * salient.candidates_per_second))
            return uniform_indices(video.start_seconds, start, end, max(share, looked_at))
        return key_frame_indices(video.start_seconds, video.key_indices, start, end, share)

    def _most_salient(self, video: Video, indices: Sequence[int], share: int) -> list[int]:
        pieces = (indices[first : first + _FRAMES_IN_MEMORY] for first in range(0, len(indices), _FRAMES_IN_MEMORY))
        looks = [look_at(frame) for piece in pieces for frame in video.frames(piece)]
        return [indices[place] for place in salient_places(looks, share, self._config.salient)]

    def _key(self, clip: Clip, identity: tuple[int, int], share: int) -> str:
        """Whatever decides which pixels come out."""
        facts: list[Any] = [
            clip.video,
            clip.start_seconds,
            clip.end_seconds,
            *identity,
            self._config.name,
            share,
            self._config.max_pixels,
        ]
        if self._config.name == "salient":
            facts.append(asdict(self._config.salient))
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def scaled_down(frame: Image.Image, max_pixels: int) -> Image.Image:
    """A frame of at most about `max_pixels` pixels with the proportions of the original.

    >>> scaled_down(Image.new("RGB", (640, 360)), 57600).size
    (320, 180)
    """
    scale = math.sqrt(max_pixels / (frame.width * frame.height))
    if scale >= 1:
        return frame
    return frame.resize((max(1, round(frame.width * scale)), max(1, round(frame.height * scale))), Image.Resampling.BICUBIC)
