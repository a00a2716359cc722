"""Small corpora and small videos, written by fixtures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from making import SALIENT
from PIL import Image

from fires_exp.config.data import DatasetConfig, FramesConfig, LimitConfig

SECONDS = 10
FRAMES_PER_SECOND = 10
KEY_FRAME_EVERY_SECONDS = 2
SIZE = (64, 48)


@pytest.fixture
def dataset_config() -> Callable[..., DatasetConfig]:
    def config(name: str, root: Path | str | None, **changes: Any) -> DatasetConfig:
        values: dict[str, Any] = {
            "video_root": None,
            "video_pattern": "S{season:02d}E{episode:02d}.mp4",
            "on_bad_row": "error",
            "limit": LimitConfig(train=None, val=None, test=None),
        }
        return DatasetConfig(name=name, root=None if root is None else str(root), **(values | changes))

    return config


@pytest.fixture
def frames_config() -> Callable[..., FramesConfig]:
    def config(name: str, **changes: Any) -> FramesConfig:
        values: dict[str, Any] = {
            "max_frames": 16,
            "max_frames_per_turn": 4,
            "max_pixels": 100_000,
            "on_unreadable": "error",
            "salient": SALIENT,
        }
        return FramesConfig(name=name, **(values | changes))

    return config


MESC_HEADER = "Utterance,Speaker,Emotion,Strategy,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
MESC_ROWS = (
    'I told you.,Client,sadness,undefined,0,0,1,1,"00:00:00,000","00:00:01,000"',
    'Twice.,Client,Anger,undefined,0,1,1,1,"00:00:01,000","00:00:02,500"',
    'Told me what?,Therapist,neutral,Open question,0,2,1,1,"00:00:03,000","00:00:04,000"',
    'Go on.,Therapist,neutral,open question,0,3,1,1,"00:00:04,000","00:00:05,000"',
    'Hello.,Therapist,neutral,Others,1,0,1,2,"00:00:00,000","00:00:01,000"',
    'Hi.,Client,joy,undefined,1,1,1,2,"00:00:01,000","00:00:02,000"',
    'How are you?,Therapist,neutral,Open question,1,2,1,2,"00:00:02,000","00:00:03,000"',
)


@pytest.fixture
def mesc_folder(tmp_path: Path) -> Callable[..., Path]:
    """A folder in MESC's layout; dialogue 0 is in train, dialogue 1 in test, by default."""

    def folder(
        rows: Sequence[str] = MESC_ROWS, *, header: str = MESC_HEADER, splits: str = '{"train": [0], "val": [], "test": [1]}'
    ) -> Path:
        (tmp_path / "MESC.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        (tmp_path / "split_ids.json").write_text(splits)
        return tmp_path

    return folder


def gray_of_second(second: int) -> int:
    return 10 + 24 * second


@pytest.fixture(scope="session")
def second_of() -> Callable[[Any], int]:
    """The second of the test video to which a frame belongs, computed from its gray value."""
    return lambda frame: round((float(np.asarray(frame).mean()) - 10) / 24)


def write_video(path: Path, *, key_frame_every_seconds: int) -> None:
    """Ten seconds of ten frames; each second has a gray value of its own."""
    images = [
        Image.new("RGB", SIZE, (gray_of_second(second),) * 3) for second in range(SECONDS) for _ in range(FRAMES_PER_SECOND)
    ]
    write_frames(path, images, frames_per_second=FRAMES_PER_SECOND, key_frame_every=key_frame_every_seconds * FRAMES_PER_SECOND)


def write_frames(path: Path, images: Sequence[Image.Image], *, frames_per_second: int, key_frame_every: int) -> None:
    """A video of images of one size."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream: Any = container.add_stream("libx264", rate=frames_per_second)
        stream.width, stream.height = images[0].size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # with several threads the bytes differ each time
        stream.codec_context.gop_size = key_frame_every
        stream.options = {"preset": "veryfast", "sc_threshold": "0"}
        for image in images:
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.asarray(image), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def write_audio_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=16_000)
        stream.layout = "mono"
        for index in range(8):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16_000, index * 1024, Fraction(1, 16_000)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


@pytest.fixture(scope="session")
def video_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`S01E01.mp4` has a key frame every two seconds, `one_key_frame.mp4` only one; the others are broken."""
    root = tmp_path_factory.mktemp("videos")
    write_video(root / "S01E01.mp4", key_frame_every_seconds=KEY_FRAME_EVERY_SECONDS)
    write_video(root / "one_key_frame.mp4", key_frame_every_seconds=SECONDS)
    write_audio_only(root / "audio_only.mp4")
    content = (root / "S01E01.mp4").read_bytes()
    (root / "truncated.mp4").write_bytes(content[: len(content) * 2 // 3])
    start, end = content.index(b"mdat") + 4, len(content)
    (root / "damaged.mp4").write_bytes(content[: start + 900] + b"\xff" * (end - start - 900))
    (root / "garbage.mp4").write_bytes(bytes(range(256)) * 20)
    (root / "empty.mp4").write_bytes(b"")
    (root / "folder.mp4").mkdir()
    return root


@pytest.fixture
def mesc_rows() -> tuple[str, ...]:
    return MESC_ROWS
