"""Salient frames of clips that were drawn for it, and of looks made by hand."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.conftest import write_frames
from making import SALIENT
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fires_exp.config.data import FramesConfig, SalientConfig
from fires_exp.data.records import Clip, SupportExample, Utterance
from fires_exp.data.video import salience
from fires_exp.data.video.frames import FrameReader
from fires_exp.data.video.salience import Look, look_at, salient_places
from fires_exp.errors import ConfigError

SIZE = (160, 120)
A_SECOND = 10


class NotThere:
    """An import system that has no OpenCV."""

    def find_spec(self, name: str, *rest: object) -> None:
        if name == "cv2":
            raise ModuleNotFoundError("No module named 'cv2'", name="cv2")


def room(color: str, lamp: int = 20) -> Image.Image:
    """A wall with a window and a lamp at some height."""
    image = Image.new("RGB", SIZE, color)
    draw = ImageDraw.Draw(image)
    draw.rectangle((100, 20, 150, 80), fill="white")
    draw.ellipse((20, lamp, 50, lamp + 30), fill="yellow")
    return image


def example(end: float, *, video: str = "clip.mp4") -> SupportExample:
    clip = Clip(video=video, start_seconds=0.0, end_seconds=end)
    return SupportExample(
        id="x",
        split="train",
        history=(Utterance(speaker="seeker", text="I see.", clip=clip),),
        target=Utterance(speaker="supporter", text="Yes."),
    )


@pytest.fixture
def chosen(tmp_path: Path, frames_config: Callable[..., FramesConfig]) -> Callable[..., list[Image.Image]]:
    """The frames chosen of a clip made of these pictures."""

    def choose(pictures: Sequence[Image.Image], name: str = "salient", **changes: Any) -> list[Image.Image]:
        write_frames(tmp_path / "clip.mp4", pictures, frames_a_second=A_SECOND, key_frame_every=len(pictures))
        reader = FrameReader(frames_config(name, **changes), tmp_path, tmp_path / "cache")
        (turn,) = reader.frames_of(example(len(pictures) / A_SECOND))
        return turn

    return choose


def blueness(frame: Image.Image) -> bool:
    """Whether the wall is blue rather than red."""
    red, _, blue = frame.getpixel((5, 5))  # type: ignore[misc]
    return bool(blue > red)


def test_a_change_of_scene_in_the_middle_shows_both_scenes(chosen: Callable[..., list[Image.Image]]) -> None:
    frames = chosen([room("maroon")] * 20 + [room("navy")] * 20)
    assert [blueness(frame) for frame in frames] == [False, True]


def test_a_scene_of_a_moment_is_not_missed(chosen: Callable[..., list[Image.Image]]) -> None:
    pictures = [room("maroon")] * 34 + [room("navy")] * 6
    assert [blueness(frame) for frame in chosen(pictures, max_frames_per_turn=2)] == [False, True]
    assert [blueness(frame) for frame in chosen(pictures, "uniform", max_frames_per_turn=2)] == [False, False]


def test_of_a_still_clip_one_frame_is_enough(chosen: Callable[..., list[Image.Image]]) -> None:
    assert len(chosen([room("maroon")] * 40)) == 1
    assert len(chosen([room("maroon")] * 40, "uniform")) == 4


def test_black_frames_and_fades_are_left_out_unless_there_is_nothing_else(chosen: Callable[..., list[Image.Image]]) -> None:
    black = Image.new("RGB", SIZE, "black")
    assert [frame.getpixel((5, 5))[0] > 100 for frame in chosen([black] * 20 + [room("maroon")] * 20)] == [True]  # type: ignore[index]
    assert len(chosen([black] * 40)) == 1


def test_frames_come_in_the_order_of_time(chosen: Callable[..., list[Image.Image]]) -> None:
    frames = chosen([room("maroon")] * 10 + [room("navy")] * 10 + [room("olive")] * 10 + [room("teal")] * 10)
    found = [np.asarray(frame)[5, 5].astype(int) for frame in frames]
    walls = [Image.new("RGB", (1, 1), color).getpixel((0, 0)) for color in ("maroon", "navy", "olive", "teal")]
    assert all(np.abs(pixel - wall).max() < 20 for pixel, wall in zip(found, walls, strict=True))


def test_the_same_clip_gives_the_same_frames_and_they_are_cached(
    tmp_path: Path, frames_config: Callable[..., FramesConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [room("maroon", lamp) for lamp in range(0, 80, 2)]
    write_frames(tmp_path / "clip.mp4", pictures, frames_a_second=A_SECOND, key_frame_every=len(pictures))
    looked: list[Image.Image] = []
    monkeypatch.setattr("fires_exp.data.video.frames.look_at", lambda frame: looked.append(frame) or look_at(frame))

    def choose(cache: str, **changes: Any) -> list[Image.Image]:
        (turn,) = FrameReader(frames_config("salient", **changes), tmp_path, tmp_path / cache).frames_of(example(4.0))
        return turn

    first = choose("cache")
    assert len(first) == 4
    assert len(looked) == 16  # four a second
    again = choose("cache", max_frames=15)  # the share is the same, and so is the entry
    assert len(looked) == 16
    anew = choose("another")
    assert len(looked) == 32
    assert [frame.tobytes() for frame in first] == [frame.tobytes() for frame in again] == [frame.tobytes() for frame in anew]
    other = SalientConfig(candidates_per_second=2.0, max_candidates=5, least_change=0.5, face_weight=0.0, face_bonus=1.0)
    assert len(choose("cache", salient=other)) == 1
    assert len(looked) == 37  # another choice is another entry


def test_a_long_span_is_looked_at_in_so_many_places_and_no_more(
    chosen: Callable[..., list[Image.Image]], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Image.Image] = []
    monkeypatch.setattr("fires_exp.data.video.frames.look_at", lambda frame: looked.append(frame) or look_at(frame))
    chosen([room("maroon")] * 100)
    assert len(looked) == 40
    few = SalientConfig(candidates_per_second=4.0, max_candidates=7, least_change=0.02, face_weight=0.0, face_bonus=1.0)
    chosen([room("navy")] * 100, salient=few)
    assert len(looked) == 47


def look(gray: float, face: NDArray[np.uint8] | None = None) -> Look:
    """A picture of two halves, one of them black, so that it is not flat."""
    picture = np.zeros((32, 32, 3), np.float32)
    picture[:16] = gray
    return Look(picture=picture, face=face)


def some_face(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (48, 48), dtype=np.uint8)


def test_places_are_those_farthest_apart_each_the_most_typical_of_its_kind() -> None:
    # 0.40 to 0.44 belong together, 0.42 is in their middle; 0.9 stands alone
    looks = [look(gray) for gray in (0.40, 0.42, 0.44, 0.9)]
    assert salient_places(looks, 2, SALIENT) == [1, 3]
    assert salient_places([looks[0], looks[1], looks[3]], 1, SALIENT) == [1]  # the one in the middle
    assert salient_places(looks, 4, SALIENT) == [1, 3]  # halves differ by 0.02, pictures by 0.01


def test_faces_go_before() -> None:
    same = some_face(1)
    looks = [look(0.40), look(0.41, same), look(0.42)]
    assert salient_places(looks, 1, SALIENT) == [1]
    # 0.2 and 0.8 are equally far from 0.5; the one with a face is chosen
    assert salient_places([look(0.2), look(0.5), look(0.5), look(0.8, same)], 2, SALIENT)[-1] == 3
    assert salient_places([look(0.2, same), look(0.5), look(0.5), look(0.8)], 2, SALIENT)[0] == 0


def test_another_expression_in_the_same_picture_is_a_change_and_a_face_that_moves_or_brightens_is_none() -> None:
    calm, other = some_face(1), some_face(2)
    moved = np.roll(calm, (3, -2), axis=(0, 1))
    brighter = (calm // 2 + 100).astype(np.uint8)
    assert salient_places([look(0.5, calm), look(0.5, calm), look(0.5, other)], 2, SALIENT) == [0, 2]
    assert len(salient_places([look(0.5, calm), look(0.5, moved), look(0.5, brighter)], 3, SALIENT)) == 1


def test_a_face_is_found_in_a_picture_of_one_and_none_in_a_room(
    real_corpora: Path, frames_config: Callable[..., FramesConfig], tmp_path: Path
) -> None:
    reader = FrameReader(frames_config("salient"), real_corpora / "clips", tmp_path)
    (frames,) = reader.frames_of(example(2.4, video="pyfeat_single_face.mp4"))
    assert 1 < len(frames) <= 4  # first serious, then smiling
    assert all(look_at(frame).face is not None for frame in frames)
    assert look_at(room("maroon")).face is None


def test_a_damaged_clip_is_a_warning_as_with_any_choice(
    video_root: Path, tmp_path: Path, frames_config: Callable[..., FramesConfig], caplog: pytest.LogCaptureFixture
) -> None:
    reader = FrameReader(frames_config("salient", on_unreadable="warn"), video_root, tmp_path)
    with caplog.at_level(logging.WARNING, "fires_exp.data"):
        assert reader.frames_of(example(10.0, video="damaged.mp4")) == [[]]
    assert "damaged.mp4: cannot be decoded" in caplog.records[0].getMessage()


def refused(frames_config: Callable[..., FramesConfig], folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        FrameReader(frames_config("salient"), folder, folder)
    FrameReader(frames_config("uniform"), folder, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def forgotten() -> Iterator[None]:
    """OpenCV and its detector are loaded anew, before a test and after it."""
    for loaded in (salience._cv2, salience._face_detector):
        loaded.cache_clear()
    yield
    for loaded in (salience._cv2, salience._face_detector):
        loaded.cache_clear()


@pytest.mark.usefixtures("forgotten")
def test_a_missing_package_is_one_line_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, frames_config: Callable[..., FramesConfig], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "meta_path", [NotThere(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    said = refused(frames_config, tmp_path)
    assert said == "frames=salient needs a package that is not installed: pip install fires-exp[salient]"


@pytest.mark.usefixtures("forgotten")
def test_a_package_that_does_not_load_says_why(
    monkeypatch: pytest.MonkeyPatch, frames_config: Callable[..., FramesConfig], tmp_path: Path
) -> None:
    (tmp_path / "cv2.py").write_text('raise ImportError("libGL.so.1: cannot open shared object file")\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    said = refused(frames_config, tmp_path)
    assert said.startswith("frames=salient: OpenCV does not load (libGL.so.1: cannot open shared object file); install it anew")


@pytest.mark.usefixtures("forgotten")
def test_a_missing_model_of_faces_is_named_by_its_file(
    monkeypatch: pytest.MonkeyPatch, frames_config: Callable[..., FramesConfig], tmp_path: Path
) -> None:
    monkeypatch.setattr(salience, "_cascade", lambda: str(tmp_path / "faces.xml"))
    assert f"lacks its model of faces, {tmp_path / 'faces.xml'}; install it anew" in refused(frames_config, tmp_path)
