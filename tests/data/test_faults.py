"""Clips and tables that are broken as real ones are: frames or rows all the same, or one line that says what is wrong."""

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

Pattern = "S{season:02d}E{episode:02d}.mp4"


def frames_or_reason(path: Path) -> list[Image.Image] | str:
    """The first, the middle and the last frame, or why there is none."""
    try:
        video = Video(path)
        count = len(video.start_seconds)
        return video.frames([0, count // 2, count - 1])
    except FrameError as error:
        return str(error)


def test_a_video_cut_off_anywhere_is_frames_or_a_reason(video_root: Path, tmp_path: Path) -> None:
    whole = (video_root / "S01E01.mp4").read_bytes()
    path, readable = tmp_path / "cut.mp4", 0
    for end in range(0, len(whole) + 1, 64):
        path.write_bytes(whole[:end])
        readable += not isinstance(frames_or_reason(path), str)
    assert readable < 10, "only a cut between two packets leaves a video"


def test_a_video_with_other_bytes_here_and_there_is_frames_or_a_reason(video_root: Path, tmp_path: Path) -> None:
    whole = (video_root / "S01E01.mp4").read_bytes()
    draw = np.random.default_rng(0)
    kinds = set()
    for changes in (1, 3, 30) * 40:
        spoiled = bytearray(whole)
        for place in draw.integers(len(whole), size=changes):
            spoiled[place] = draw.integers(256)
        (tmp_path / "spoiled.mp4").write_bytes(spoiled)
        found = frames_or_reason(tmp_path / "spoiled.mp4")
        assert isinstance(found, list) or "\n" not in found
        kinds.add(type(found))
    assert kinds == {list, str}


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
def test_what_is_no_video_is_a_reason(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert str(frames_or_reason(tmp_path / name)).startswith("cannot be opened as a video (")


@pytest.mark.parametrize(("codec", "ending"), [("mpeg4", "mp4"), ("libvpx-vp9", "webm"), ("mjpeg", "avi"), ("libsvtav1", "mp4")])
def test_another_codec_is_read_or_a_reason(tmp_path: Path, codec: str, ending: str) -> None:
    path = tmp_path / f"clip.{ending}"
    write_clip(path, codec, (128, 96), count=10)
    found = frames_or_reason(path)
    if isinstance(found, str):  # a decoder that was built without this codec
        assert found.startswith("cannot be ")
        assert codec == "libsvtav1"
    else:
        assert [frame.size for frame in found] == [(128, 96)] * 3


def write_clip(path: Path, codec: str, size: tuple[int, int], *, count: int) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"no encoder {codec} here")
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for index in range(count):
            pixels = np.full((size[1], size[0], 3), 20 * index, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def test_huge_frames_are_scaled_down_one_by_one(frames_config: Callable[..., FramesConfig], tmp_path: Path) -> None:
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
    return read_mesc(root, corpus="mesc", video_pattern=Pattern, problems=RowProblems("error"))


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-16", "MESC.csv:1: the header is not UTF-8; save the file as UTF-8"),
        ("utf-32", "MESC.csv:1: the header is not UTF-8; save the file as UTF-8"),
        ("latin-1", "MESC.csv:2: Utterance is not UTF-8 ("),
        ("cp1252", "MESC.csv:2: Utterance is not UTF-8 ("),
        ("shift-jis", "MESC.csv:2: Utterance is not UTF-8 ("),
    ],
)
def test_a_table_in_another_encoding_is_named_with_the_remedy(
    mesc_folder: Callable[..., Path], mesc_rows: tuple[str, ...], encoding: str, said: str
) -> None:
    root = mesc_folder()
    word = "痛い" if encoding == "shift-jis" else "détesté"
    text = (root / "MESC.csv").read_text().replace("I told you.", word)
    (root / "MESC.csv").write_bytes(text.encode(encoding))
    with pytest.raises(DataError) as caught:
        read(root)
    assert str(caught.value).startswith(said)
    assert "save the file as UTF-8" in str(caught.value)


def test_an_utterance_of_a_megabyte_is_a_bad_row_of_a_csv_and_a_turn_of_a_jsonl(
    mesc_folder: Callable[..., Path], mesc_rows: tuple[str, ...], tmp_path: Path
) -> None:
    long = "word " * 200_000
    root = mesc_folder([mesc_rows[0].replace("I told you.", long), *mesc_rows[1:]])
    with pytest.raises(
        DataError, match=r"^MESC\.csv:2: cannot be read as csv \(field larger than field limit \(131072\)\); mend"
    ):
        read(root)
    turns = [{"speaker": "seeker", "text": long}, {"speaker": "supporter", "text": "Hm."}]
    (tmp_path / "a.jsonl").write_text(json.dumps({"id": "a", "split": "test", "turns": turns}))
    started = time.perf_counter()
    (talk,) = read_jsonl(tmp_path / "a.jsonl", problems=RowProblems("error"))
    assert len(talk.turns[0].text) == 999_999
    assert time.perf_counter() - started < 5


def test_times_of_a_turn_that_run_backwards_leave_it_without_a_clip(
    mesc_folder: Callable[..., Path], mesc_rows: tuple[str, ...]
) -> None:
    backwards = mesc_rows[0].replace('"00:00:00,000"', '"00:59:00,000"')
    (first, _) = read(mesc_folder([backwards, *mesc_rows[1:]]))
    assert first.turns[0].clip is None
    assert first.turns[1].clip is not None
