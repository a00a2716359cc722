"""Damaged videos and tables: each gives frames or rows, or an error in one line."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from fires_exp.config.data import FramesConfig
from fires_exp.data.readers.jsonl import read_jsonl
from fires_exp.data.readers.mesc import read_mesc
from fires_exp.data.readers.row_errors import RowProblems
from fires_exp.data.records import Clip, SupportExample, Utterance
from fires_exp.data.video.decoder import Video
from fires_exp.data.video.frames import FrameReader
from fires_exp.errors import DataError, FrameError

VIDEO_PATTERN = "S{season:02d}E{episode:02d}.mp4"


def frames_or_error(path: Path) -> list[Image.Image] | str:
    """The first, the middle and the last frame, or the error message."""
    try:
        video = Video(path)
        count = len(video.start_seconds)
        return video.frames([0, count // 2, count - 1])
    except FrameError as error:
        return str(error)


def test_a_truncated_video_gives_frames_or_an_error(video_root: Path, tmp_path: Path) -> None:
    content = (video_root / "S01E01.mp4").read_bytes()
    path, readable = tmp_path / "truncated.mp4", 0
    for end in range(0, len(content) + 1, 64):
        path.write_bytes(content[:end])
        readable += not isinstance(frames_or_error(path), str)
    assert readable < 10, "a truncated video can only be read if it ends between two packets"


def test_a_video_with_random_bytes_gives_frames_or_an_error(video_root: Path, tmp_path: Path) -> None:
    content = (video_root / "S01E01.mp4").read_bytes()
    random = np.random.default_rng(0)
    result_types = set()
    for changes in (1, 3, 30) * 40:
        damaged = bytearray(content)
        for index in random.integers(len(content), size=changes):
            damaged[index] = random.integers(256)
        (tmp_path / "damaged.mp4").write_bytes(damaged)
        result = frames_or_error(tmp_path / "damaged.mp4")
        assert isinstance(result, list) or "\n" not in result
        result_types.add(type(result))
    assert result_types == {list, str}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.mp4", b"Utterance,Speaker\nI told you.,Client\n" * 99),
        ("page.mp4", b"<html>404 not found</html>"),
        ("zip.mp4", b"PK\x03\x04" + b"\0" * 4000),
        ("zeros.mp4", b"\0" * 100_000),
        ("huge_claim.mp4", b"\x7f\xff\xff\xffftypisom" + b"\0" * 100),
    ],
)
def test_a_file_that_is_no_video_gives_an_error(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert str(frames_or_error(tmp_path / name)).startswith("cannot be opened as a video (")


@pytest.mark.parametrize(("codec", "ending"), [("mpeg4", "mp4"), ("libvpx-vp9", "webm"), ("mjpeg", "avi"), ("libsvtav1", "mp4")])
def test_another_codec_gives_frames_or_an_error(tmp_path: Path, codec: str, ending: str) -> None:
    path = tmp_path / f"clip.{ending}"
    write_clip(path, codec, (128, 96), count=10)
    result = frames_or_error(path)
    if isinstance(result, str):  # the decoder was built without this codec
        assert result.startswith("cannot be ")
        assert codec == "libsvtav1"
    else:
        assert [frame.size for frame in result] == [(128, 96)] * 3


def write_clip(path: Path, codec: str, size: tuple[int, int], *, count: int) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"PyAV has no encoder {codec}")
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for index in range(count):
            pixels = np.full((size[1], size[0], 3), 20 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def test_huge_frames_are_scaled_down(frames_config: Callable[..., FramesConfig], tmp_path: Path) -> None:
    write_clip(tmp_path / "huge.mp4", "libx264", (4096, 2304), count=10)
    reader = FrameReader(frames_config("uniform", max_frames=2, max_pixels=50_176), tmp_path, tmp_path / "cache")
    clip = Clip(video="huge.mp4", start_seconds=0.0, end_seconds=1.0)
    example = SupportExample(
        id="a",
        split="train",
        history=(Utterance(speaker="seeker", text="…", clip=clip),),
        target=Utterance(speaker="supporter", text="I see."),
    )
    assert [frame.size for frame in reader.frames_of(example)[0]] == [(299, 168)] * 2


def read(root: Path) -> Any:
    return read_mesc(root, corpus="mesc", video_pattern=VIDEO_PATTERN, problems=RowProblems("error"))


@pytest.mark.parametrize(
    ("encoding", "location"),
    [
        ("utf-16", "MESC.csv:1: the header"),
        ("utf-32", "MESC.csv:1: the header"),
        ("latin-1", "MESC.csv:2: Utterance"),
        ("cp1252", "MESC.csv:2: Utterance"),
        ("shift-jis", "MESC.csv:2: Utterance"),
    ],
)
def test_a_table_in_another_encoding_is_an_error(mesc_folder: Callable[..., Path], encoding: str, location: str) -> None:
    root = mesc_folder()
    word = "痛い" if encoding == "shift-jis" else "détesté"
    text = (root / "MESC.csv").read_text().replace("I told you.", word)
    (root / "MESC.csv").write_bytes(text.encode(encoding))
    with pytest.raises(DataError, match=f"^{location} .*UTF-8"):
        read(root)


def test_an_utterance_of_a_megabyte_is_a_bad_row_of_a_csv_and_a_turn_of_a_jsonl(
    mesc_folder: Callable[..., Path], mesc_rows: tuple[str, ...], tmp_path: Path
) -> None:
    long = "word " * 200_000
    root = mesc_folder([mesc_rows[0].replace("I told you.", long), *mesc_rows[1:]])
    with pytest.raises(DataError, match=r"^MESC\.csv:2: .*field larger than field limit \(131072\)"):
        read(root)
    turns = [{"speaker": "seeker", "text": long}, {"speaker": "supporter", "text": "Hm."}]
    (tmp_path / "a.jsonl").write_text(json.dumps({"id": "a", "split": "test", "turns": turns}))
    started = time.perf_counter()
    (talk,) = read_jsonl(tmp_path / "a.jsonl", problems=RowProblems("error"))
    assert len(talk.turns[0].text) == 999_999
    assert time.perf_counter() - started < 5


def test_a_turn_that_ends_before_it_starts_has_no_clip(mesc_folder: Callable[..., Path], mesc_rows: tuple[str, ...]) -> None:
    backwards = mesc_rows[0].replace('"00:00:00,000"', '"00:59:00,000"')
    (first, _) = read(mesc_folder([backwards, *mesc_rows[1:]]))
    assert first.turns[0].clip is None
    assert first.turns[1].clip is not None
