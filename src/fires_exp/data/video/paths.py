"""The names of videos in a dataset and their files, which are always inside the video root."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath

from fires_exp.data.records import SupportExample
from fires_exp.errors import DataError

_FORBIDDEN_CHARACTERS = re.compile("[\0\ud800-\udfff]")


@lru_cache(maxsize=4096)  # called for every row, and a corpus has few episodes
def episode_name(pattern: str, season: int, episode: int) -> str:
    """The file name of an episode. Raises `DataError` for a pattern that cannot be formatted.

    >>> episode_name("S{season:02d}E{episode:02d}.mp4", 1, 7)
    'S01E07.mp4'
    """
    try:
        return pattern.format(season=season, episode=episode)
    except (LookupError, ValueError, AttributeError):
        raise DataError(
            f"dataset.video_pattern={pattern} is not valid; "
            "write {season} and {episode}, as in S{season:02d}E{episode:02d}.mp4"
        ) from None


def video_path(video_root: Path, video: str) -> Path:
    """The file of a video, which need not exist.

    Raises `DataError` if the name is absolute, contains `..` or follows a link out of the video root.
    """
    remedy = f"write a path relative to dataset.video_root={video_root} and inside it"
    name = PurePosixPath(video)
    if (
        not name.parts
        or _FORBIDDEN_CHARACTERS.search(video)
        or name.is_absolute()
        or PureWindowsPath(video).drive
        or ".." in name.parts
    ):
        raise DataError(f"video {video!r} is not a valid path; {remedy}")
    path = video_root / name
    try:
        is_inside = path.resolve().is_relative_to(video_root.resolve())
    except (OSError, RuntimeError):  # a loop of links
        is_inside = False
    if not is_inside:
        raise DataError(f"video {video!r} links to a file outside the video root; {remedy}")
    return path


def video_identity(path: Path) -> tuple[int, int] | None:
    """Size in bytes and modification time in nanoseconds; None if the file does not exist."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def history_videos(examples: Iterable[SupportExample]) -> list[str]:
    """The distinct videos of all histories, sorted by name. Targets do not count: a model never sees their clips."""
    return sorted({turn.clip.video for example in examples for turn in example.history if turn.clip is not None})
