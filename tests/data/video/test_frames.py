from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fires_exp.config.data import FramesConfig
from fires_exp.data.records import Clip, SupportExample, Utterance
from fires_exp.data.video.frames import FrameReader, scaled_down
from fires_exp.errors import DataError, FrameError

MakeConfig = Callable[..., FramesConfig]
SecondOf = Callable[[Image.Image], int]


def example(*spans: tuple[str, float, float] | None) -> SupportExample:
    """An instance whose history has a turn for each span; None is a turn without a clip."""
    clips = [span and Clip(video=span[0], start_seconds=span[1], end_seconds=span[2]) for span in spans]
    return SupportExample(
        id="one-1",
        split="train",
        history=tuple(Utterance(speaker="seeker", text="…", clip=clip) for clip in clips),
        target=Utterance(speaker="supporter", text="I see.", clip=Clip(video="never.mp4", start_seconds=0.0, end_seconds=1.0)),
    )


def pixels(frames: list[list[Image.Image]]) -> list[bytes]:
    return [frame.tobytes() for turn in frames for frame in turn]


def cached_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.jpg"))


def test_uniform_frames_are_from_the_turns_span_in_order_of_time(
    frames_config: MakeConfig, video_root: Path, tmp_path: Path, second_of: SecondOf
) -> None:
    reader = FrameReader(frames_config("uniform"), video_root, tmp_path)
    turns = reader.frames_of(example(("S01E01.mp4", 0.0, 2.0), None, ("S01E01.mp4", 5.0, 9.0)))
    assert [[second_of(frame) for frame in turn] for turn in turns] == [[0, 0, 1, 1], [], [5, 6, 7, 8]]
    assert {(frame.mode, frame.size) for turn in turns for frame in turn} == {("RGB", (64, 48))}
    assert reader.problems == {}


def test_key_frames_are_those_of_the_encoder(
    frames_config: MakeConfig, video_root: Path, tmp_path: Path, second_of: SecondOf
) -> None:
    reader = FrameReader(frames_config("keyframes"), video_root, tmp_path)
    (turn,) = reader.frames_of(example(("S01E01.mp4", 1.0, 7.0)))
    assert [second_of(frame) for frame in turn] == [2, 4, 6]


def test_a_span_without_key_frames_gets_uniform_frames(
    frames_config: MakeConfig, video_root: Path, tmp_path: Path, second_of: SecondOf
) -> None:
    reader = FrameReader(frames_config("keyframes", max_frames_per_turn=2), video_root, tmp_path)
    (turn,) = reader.frames_of(example(("one_key_frame.mp4", 4.0, 8.0)))
    assert [second_of(frame) for frame in turn] == [5, 7]


def test_the_newest_turns_have_frames_if_max_frames_is_not_enough_for_all(
    frames_config: MakeConfig, video_root: Path, tmp_path: Path, second_of: SecondOf
) -> None:
    reader = FrameReader(frames_config("uniform", max_frames=3), video_root, tmp_path)
    spans = [("S01E01.mp4", float(second), second + 1.0) for second in (1, 3, 5, 7)]
    turns = reader.frames_of(example(*spans))
    assert [[second_of(frame) for frame in turn] for turn in turns] == [[], [3], [5], [7]]


def test_a_span_beyond_the_end_of_the_video_is_cut_there(
    frames_config: MakeConfig, video_root: Path, tmp_path: Path, second_of: SecondOf
) -> None:
    reader = FrameReader(frames_config("uniform"), video_root, tmp_path)
    (turn,) = reader.frames_of(example(("S01E01.mp4", 8.0, 60.0)))
    assert [second_of(frame) for frame in turn] == [8, 8, 9, 9]


def test_without_frames_or_videos_every_turn_is_text_only(frames_config: MakeConfig, video_root: Path, tmp_path: Path) -> None:
    two_turns = example(("S01E01.mp4", 0.0, 2.0), None)
    assert FrameReader(frames_config("none"), video_root, tmp_path).frames_of(two_turns) == [[], []]
    assert FrameReader(frames_config("uniform"), None, tmp_path).frames_of(two_turns) == [[], []]


def test_large_frames_are_scaled_down_before_they_are_cached(frames_config: MakeConfig, video_root: Path, tmp_path: Path) -> None:
    reader = FrameReader(frames_config("uniform", max_pixels=784), video_root, tmp_path)
    (turn,) = reader.frames_of(example(("S01E01.mp4", 0.0, 2.0)))
    assert {frame.size for frame in turn} == {(32, 24)}
    with Image.open(cached_files(tmp_path)[0]) as cached:
        assert cached.size == (32, 24)


def test_scaling_keeps_proportions_and_never_enlarges() -> None:
    assert scaled_down(Image.new("RGB", (1280, 720)), 640 * 360).size == (640, 360)
    assert scaled_down(Image.new("RGB", (64, 48)), 100_000).size == (64, 48)
    assert scaled_down(Image.new("RGB", (4000, 1)), 784).size == (1771, 1)


class TestCache:
    two_clips = example(("S01E01.mp4", 1.0, 5.0), ("S01E01.mp4", 6.0, 7.0))

    def reader(self, frames_config: MakeConfig, video_root: Path, folder: Path) -> FrameReader:
        return FrameReader(frames_config("uniform"), video_root, folder)

    def test_cached_frames_have_the_pixels_of_fresh_ones(
        self, frames_config: MakeConfig, video_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fresh = self.reader(frames_config, video_root, tmp_path).frames_of(self.two_clips)
        assert len(cached_files(tmp_path)) == 8

        def refuse(*_: object) -> None:
            raise AssertionError("a cached video was opened")

        monkeypatch.setattr("fires_exp.data.video.decoder.Video.__init__", refuse)
        cached = self.reader(frames_config, video_root, tmp_path).frames_of(self.two_clips)
        assert pixels(cached) == pixels(fresh)

    @pytest.mark.parametrize("damage", ["truncated", "flipped bit", "missing file", "no hashes", "invalid hashes"])
    def test_a_damaged_entry_is_replaced(self, frames_config: MakeConfig, video_root: Path, tmp_path: Path, damage: str) -> None:
        fresh = self.reader(frames_config, video_root, tmp_path).frames_of(self.two_clips)
        file = cached_files(tmp_path)[2]
        content = file.read_bytes()
        if damage == "truncated":
            file.write_bytes(content[:100])
        elif damage == "flipped bit":
            file.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
        elif damage == "missing file":
            file.unlink()
        elif damage == "no hashes":
            (file.parent / "frames.json").unlink()
        else:
            (file.parent / "frames.json").write_text("7")
        second = self.reader(frames_config, video_root, tmp_path).frames_of(self.two_clips)
        assert pixels(second) == pixels(fresh)
        assert file.read_bytes() == content

    def test_no_temporary_folder_remains(self, frames_config: MakeConfig, video_root: Path, tmp_path: Path) -> None:
        self.reader(frames_config, video_root, tmp_path).frames_of(self.two_clips)
        entries = [entry for group in tmp_path.iterdir() for entry in group.iterdir()]
        assert len(entries) == 2
        assert all(len(json.loads((entry / "frames.json").read_text())) == 4 for entry in entries)

    def test_a_replaced_video_is_read_again(
        self, frames_config: MakeConfig, video_root: Path, tmp_path: Path, second_of: SecondOf
    ) -> None:
        videos = tmp_path / "videos"
        videos.mkdir()
        shutil.copy(video_root / "S01E01.mp4", videos / "S01E01.mp4")
        reader = self.reader(frames_config, videos, tmp_path / "cache")
        reader.frames_of(self.two_clips)
        shutil.copy(video_root / "one_key_frame.mp4", videos / "S01E01.mp4")
        reader.frames_of(self.two_clips)
        assert len(cached_files(tmp_path / "cache")) == 16

    def test_a_cache_that_cannot_be_written_is_an_error(
        self, frames_config: MakeConfig, video_root: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("not a folder")
        with pytest.raises(DataError, match=rf"{tmp_path / 'file'} .*paths\.cache"):
            self.reader(frames_config, video_root, tmp_path / "file").frames_of(self.two_clips)


BROKEN = {
    "missing.mp4": "is not a file",
    "folder.mp4": "is not a file",
    "empty.mp4": "cannot be opened",
    "garbage.mp4": "cannot be opened",
    "audio_only.mp4": "cannot be opened",
    "truncated.mp4": "cannot be opened",
}


@pytest.mark.parametrize("video", BROKEN)
def test_a_broken_video_is_an_error(frames_config: MakeConfig, video_root: Path, tmp_path: Path, video: str) -> None:
    reader = FrameReader(frames_config("uniform"), video_root, tmp_path)
    for _ in range(2):
        with pytest.raises(FrameError) as raised:
            reader.frames_of(example((video, 0.0, 2.0)))
    assert str(raised.value).startswith(f"{video}: {BROKEN[video]}")
    assert "frames.on_unreadable=warn" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("video", BROKEN)
def test_a_broken_video_is_one_warning_with_on_unreadable_warn(
    frames_config: MakeConfig, video_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, video: str
) -> None:
    reader = FrameReader(frames_config("keyframes", on_unreadable="warn"), video_root, tmp_path)
    with caplog.at_level(logging.WARNING, "fires_exp.data"):
        for _ in range(2):
            turns = reader.frames_of(example((video, 0.0, 2.0), ("S01E01.mp4", 0.0, 2.0), (video, 2.0, 4.0)))
            assert [len(turn) for turn in turns] == [0, 1, 0]
    assert [record.name for record in caplog.records] == ["fires_exp.data"]
    assert caplog.records[0].getMessage().startswith(f"{video}: {BROKEN[video]}")
    assert list(reader.problems) == [video]


def test_a_span_outside_its_video_is_unreadable_and_other_spans_are_read(
    frames_config: MakeConfig, video_root: Path, tmp_path: Path
) -> None:
    reader = FrameReader(frames_config("uniform", on_unreadable="warn"), video_root, tmp_path)
    turns = reader.frames_of(example(("S01E01.mp4", 10.0, 12.0), ("S01E01.mp4", 0.0, 2.0)))
    assert [len(turn) for turn in turns] == [0, 4]
    assert list(reader.problems) == ["S01E01.mp4"]
    assert "from 10.0 to 12.0 s" in reader.problems["S01E01.mp4"]
    assert "10.000 s" in reader.problems["S01E01.mp4"]


def test_a_clip_in_the_damaged_part_of_a_video_is_unreadable(frames_config: MakeConfig, video_root: Path, tmp_path: Path) -> None:
    reader = FrameReader(frames_config("uniform", on_unreadable="warn"), video_root, tmp_path)
    turns = reader.frames_of(example(("damaged.mp4", 8.0, 10.0), ("S01E01.mp4", 0.0, 1.0)))
    assert [len(turn) for turn in turns] == [0, 4]
    assert "(Check failed: avcodec_send_packet" in reader.problems["damaged.mp4"]


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../secret.mp4", "a/../../secret.mp4", "C:/secret.mp4", "", ".", "a\0b", "link.mp4"]
)
@pytest.mark.parametrize("on_unreadable", ["warn", "error"])
def test_a_name_that_leads_out_of_the_video_root_is_an_error_under_either_policy(
    frames_config: MakeConfig, tmp_path: Path, name: str, on_unreadable: str
) -> None:
    root = tmp_path / "videos"
    root.mkdir()
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    (root / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    reader = FrameReader(frames_config("uniform", on_unreadable=on_unreadable), root, tmp_path / "cache")
    with pytest.raises(DataError, match=r"^video .*dataset\.video_root="):
        reader.frames_of(example((name, 0.0, 1.0)))


def test_links_inside_the_video_root_and_a_root_that_is_a_link_are_accepted(
    frames_config: MakeConfig, video_root: Path, tmp_path: Path
) -> None:
    shutil.copytree(video_root, tmp_path / "videos")
    (tmp_path / "videos" / "link.mp4").symlink_to("S01E01.mp4")
    (tmp_path / "root").symlink_to("videos")
    reader = FrameReader(frames_config("uniform"), tmp_path / "root", tmp_path / "cache")
    assert [len(turn) for turn in reader.frames_of(example(("link.mp4", 0.0, 2.0)))] == [4]


def test_a_reader_can_be_pickled(frames_config: MakeConfig, video_root: Path, tmp_path: Path) -> None:
    reader = FrameReader(frames_config("uniform"), video_root, tmp_path / "cache")
    frames = reader.frames_of(TestCache.two_clips)
    shutil.rmtree(tmp_path / "cache")
    assert pixels(pickle.loads(pickle.dumps(reader)).frames_of(TestCache.two_clips)) == pixels(frames)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to count open files")
def test_only_a_few_videos_stay_open(frames_config: MakeConfig, video_root: Path, tmp_path: Path) -> None:
    for index in range(12):
        shutil.copy(video_root / "S01E01.mp4", tmp_path / f"{index}.mp4")
    reader = FrameReader(frames_config("uniform"), tmp_path, tmp_path / "cache")
    before = len(os.listdir("/proc/self/fd"))
    for index in range(12):
        reader.frames_of(example((f"{index}.mp4", 0.0, 2.0)))
    assert len(os.listdir("/proc/self/fd")) - before <= 4


def test_real_clips_can_be_read(frames_config: MakeConfig, real_data: Path, tmp_path: Path) -> None:
    reader = FrameReader(frames_config("keyframes", max_pixels=50_176), real_data / "clips", tmp_path)
    (turn,) = reader.frames_of(example(("pyfeat_single_face.mp4", 0.0, 2.0)))
    assert turn
    assert all(frame.mode == "RGB" and frame.width * frame.height <= 51_000 for frame in turn)
    assert np.asarray(turn[0]).std() > 10
