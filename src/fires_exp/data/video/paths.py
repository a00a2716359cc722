"""Names of videos and the files they stand for. A name in a dataset never leads out of the video root."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath

from fires_exp.data.records import SupportExample
from fires_exp.errors import DataError

_NEVER_IN_A_NAME = re.compile("[\0\ud800-\udfff]")


@lru_cache(maxsize=4096)  # asked for every row, and a corpus has few episodes
def episode_name(pattern: str, season: int, episode: int) -> str:
    """
    >>> episode_name("S{season:02d}E{episode:02d}.mp4", 1, 7)
    'S01E07.mp4'
    """
    try:
        return pattern.format(season=season, episode=episode)
    except (LookupError, ValueError, AttributeError):
        raise DataError(
            f"dataset.video_pattern={pattern}: it may hold {{season}} and {{episode}}, as in S{{season:02d}}E{{episode:02d}}.mp4"
        ) from None


def video_path(video_root: Path, video: str) -> Path:
    """The file of a video, which need not exist. `DataError` where the name is absolute, has `..` or follows a link out."""
    remedy = f"a video is named relative to dataset.video_root={video_root} and stays below it"
    name = PurePosixPath(video)
    if (
        not name.parts
        or _NEVER_IN_A_NAME.search(video)
        or name.is_absolute()
        or PureWindowsPath(video).drive
        or ".." in name.parts
    ):
        raise DataError(f"video {video!r} is refused; {remedy}")
    path = video_root / name
    try:
        inside = path.resolve().is_relative_to(video_root.resolve())
    except (OSError, RuntimeError):  # a loop of links
        inside = False
    if not inside:
        raise DataError(f"video {video!r} is refused, it links to a place outside; {remedy}")
    return path


def video_identity(path: Path) -> tuple[int, int] | None:
    """Size in bytes and time of the last change in nanoseconds; None where there is no such file."""
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return (facts.st_size, facts.st_mtime_ns) if stat.S_ISREG(facts.st_mode) else None


def videos_shown(examples: Iterable[SupportExample]) -> list[str]:
    """The distinct videos of all histories, sorted by name. A target's clip is never shown."""
    return sorted({turn.clip.video for example in examples for turn in example.history if turn.clip is not None})
