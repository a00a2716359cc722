"""Keys of the data: datasets and the frames of their clips."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from fires_exp.config.field import Group, setting


class DatasetName(StrEnum):
    sample = "sample"
    mesc = "mesc"
    emotyda_esc = "emotyda_esc"
    jsonl = "jsonl"


class BadRowPolicy(StrEnum):
    error = "error"
    skip = "skip"


class FrameSelection(StrEnum):
    keyframes = "keyframes"
    uniform = "uniform"
    salient = "salient"
    none = "none"


class UnreadableClipPolicy(StrEnum):
    warn = "warn"
    error = "error"


@dataclass(kw_only=True)
class LimitConfig(Group):
    train: int | None = setting("largest number of train instances; null uses all. A seeded sample, the same for every run", ge=1)
    val: int | None = setting("largest number of val instances; null uses all", ge=1)
    test: int | None = setting("largest number of test instances; null uses all", ge=1)


@dataclass(kw_only=True)
class DatasetConfig(Group):
    name: DatasetName = setting("reader of the dataset: sample, mesc, emotyda_esc or jsonl")
    root: str | None = setting("folder (jsonl: file or folder) with the dataset's text; the sample ships with the project")
    video_root: str | None = setting("folder with the videos; null means text only. Paths in the data must stay below it")
    video_pattern: str = setting(
        "mesc, sample and emotyda_esc: file name of an episode below video_root, from {season} and {episode}"
    )
    on_bad_row: BadRowPolicy = setting(
        "error: the first bad row stops the run; skip: bad rows are left out, counted and listed in the run folder"
    )
    limit: LimitConfig = setting("how many instances to use")

    def problems(self, key: str) -> Iterator[str]:
        if self.name != DatasetName.sample and self.root is None:
            yield f"{key}={self.name} needs {key}.root=<folder of the dataset>"


@dataclass(kw_only=True)
class SalientConfig(Group):
    candidates_per_second: float = setting("evenly spaced frames of a span that are compared", gt=0)
    max_candidates: int = setting("largest number of compared frames in a span", ge=1)
    least_change: float = setting(
        "a frame that differs by less than this from the selected ones is skipped; 1 is black against white", gt=0
    )
    face_weight: float = setting("how much an entirely different face adds to the difference of two frames", ge=0)
    face_bonus: float = setting("factor on the difference of a frame with a face", ge=1)


@dataclass(kw_only=True)
class FramesConfig(Group):
    name: FrameSelection = setting(
        "keyframes: the encoder's key frames in a turn's span; uniform: evenly spaced frames; salient: frames that differ most, "
        "faces first; none: text only (w/o Video)"
    )
    max_frames: int = setting(
        "largest number of frames an instance, shared by its turns (paper: 16)", ge=1, le=256, hint="frames=none uses no frames"
    )
    max_frames_per_turn: int = setting("largest number of frames a turn", ge=1)
    max_pixels: int = setting(
        "a larger frame is scaled down to about this many pixels before the backbone encodes it",
        ge=784,
        hint="one image token takes 28 x 28 = 784 pixels",
    )
    on_unreadable: UnreadableClipPolicy = setting(
        "warn: a missing or broken clip gives a warning and a text-only turn; error: it stops the run"
    )
    salient: SalientConfig = setting("settings of frames=salient")
