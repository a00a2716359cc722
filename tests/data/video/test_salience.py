"""Salient frames of drawn clips, and of features made by hand."""

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
from fires_exp.data.video import frames as frames_module
from fires_exp.data.video import salience
from fires_exp.data.video.frames import FrameReader
from fires_exp.data.video.salience import FrameFeatures, frame_features, salient_indices
from fires_exp.errors import ConfigError

SIZE = (160, 120)
FRAMES_PER_SECOND = 10


class NoOpenCv:
    """An import finder that finds no OpenCV."""

    def find_spec(self, name: str, *rest: object) -> None:
        if name == "cv2":
            raise ModuleNotFoundError("No module named 'cv2'", name="cv2")


def room(color: str, lamp: int = 20) -> Image.Image:
    """A wall with a window and a lamp at a given height."""
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
def selected(tmp_path: Path, frames_config: Callable[..., FramesConfig]) -> Callable[..., list[Image.Image]]:
    """The frames selected from a clip of these images."""

    def select(images: Sequence[Image.Image], name: str = "salient", **changes: Any) -> list[Image.Image]:
        write_frames(tmp_path / "clip.mp4", images, frames_per_second=FRAMES_PER_SECOND, key_frame_every=len(images))
        reader = FrameReader(frames_config(name, **changes), tmp_path, tmp_path / "cache")
        (turn,) = reader.frames_of(example(len(images) / FRAMES_PER_SECOND))
        return turn

    return select


def is_blue(frame: Image.Image) -> bool:
    """Whether the wall is blue and not red."""
    red, _, blue = frame.getpixel((5, 5))  # type: ignore[misc]
    return bool(blue > red)


def test_both_scenes_of_a_clip_are_selected(selected: Callable[..., list[Image.Image]]) -> None:
    frames = selected([room("maroon")] * 20 + [room("navy")] * 20)
    assert [is_blue(frame) for frame in frames] == [False, True]


def test_a_short_scene_is_selected(selected: Callable[..., list[Image.Image]]) -> None:
    images = [room("maroon")] * 34 + [room("navy")] * 6
    assert [is_blue(frame) for frame in selected(images, max_frames_per_turn=2)] == [False, True]
    assert [is_blue(frame) for frame in selected(images, "uniform", max_frames_per_turn=2)] == [False, False]


def test_a_still_clip_has_one_frame(selected: Callable[..., list[Image.Image]]) -> None:
    assert len(selected([room("maroon")] * 40)) == 1
    assert len(selected([room("maroon")] * 40, "uniform")) == 4


def test_black_frames_are_left_out_unless_there_are_no_others(selected: Callable[..., list[Image.Image]]) -> None:
    black = Image.new("RGB", SIZE, "black")
    assert [frame.getpixel((5, 5))[0] > 100 for frame in selected([black] * 20 + [room("maroon")] * 20)] == [True]  # type: ignore[index]
    assert len(selected([black] * 40)) == 1


def test_frames_are_in_order_of_time(selected: Callable[..., list[Image.Image]]) -> None:
    frames = selected([room("maroon")] * 10 + [room("navy")] * 10 + [room("olive")] * 10 + [room("teal")] * 10)
    pixels = [np.asarray(frame)[5, 5].astype(int) for frame in frames]
    walls = [Image.new("RGB", (1, 1), color).getpixel((0, 0)) for color in ("maroon", "navy", "olive", "teal")]
    assert all(np.abs(pixel - wall).max() < 20 for pixel, wall in zip(pixels, walls, strict=True))


def test_the_frames_of_a_clip_are_deterministic_and_cached(
    tmp_path: Path, frames_config: Callable[..., FramesConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [room("maroon", lamp) for lamp in range(0, 80, 2)]
    write_frames(tmp_path / "clip.mp4", images, frames_per_second=FRAMES_PER_SECOND, key_frame_every=len(images))
    compared: list[Image.Image] = []
    monkeypatch.setattr(frames_module, "frame_features", lambda frame: compared.append(frame) or frame_features(frame))

    def select(cache: str, **changes: Any) -> list[Image.Image]:
        (turn,) = FrameReader(frames_config("salient", **changes), tmp_path, tmp_path / cache).frames_of(example(4.0))
        return turn

    first = select("cache")
    assert len(first) == 4
    assert len(compared) == 16  # four per second
    cached = select("cache", max_frames=15)  # the same number of frames for this turn: the same entry
    assert len(compared) == 16
    second = select("another")
    assert len(compared) == 32
    assert [frame.tobytes() for frame in first] == [frame.tobytes() for frame in cached] == [frame.tobytes() for frame in second]
    other = SalientConfig(candidates_per_second=2.0, max_candidates=5, least_change=0.5, face_weight=0.0, face_bonus=1.0)
    assert len(select("cache", salient=other)) == 1
    assert len(compared) == 37  # other settings are another entry


def test_the_number_of_candidates_is_limited(selected: Callable[..., list[Image.Image]], monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[Image.Image] = []
    monkeypatch.setattr(frames_module, "frame_features", lambda frame: compared.append(frame) or frame_features(frame))
    selected([room("maroon")] * 100)
    assert len(compared) == 40
    few = SalientConfig(candidates_per_second=4.0, max_candidates=7, least_change=0.02, face_weight=0.0, face_bonus=1.0)
    selected([room("navy")] * 100, salient=few)
    assert len(compared) == 47


def features(gray: float, face: NDArray[np.uint8] | None = None) -> FrameFeatures:
    """A thumbnail of a gray half and a black half, which gives it contrast."""
    thumbnail = np.zeros((32, 32, 3), np.float32)
    thumbnail[:16] = gray
    return FrameFeatures(thumbnail=thumbnail, face=face)


def random_face(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (48, 48), dtype=np.uint8)


def test_the_most_typical_frames_of_the_most_different_groups_are_selected() -> None:
    # 0.40 to 0.44 are one group with 0.42 in the middle; 0.9 is a group of its own
    frames = [features(gray) for gray in (0.40, 0.42, 0.44, 0.9)]
    assert salient_indices(frames, 2, SALIENT) == [1, 3]
    assert salient_indices([frames[0], frames[1], frames[3]], 1, SALIENT) == [1]  # the middle one
    assert salient_indices(frames, 4, SALIENT) == [1, 3]  # the halves differ by 0.02, so that the thumbnails differ by 0.01


def test_frames_with_a_face_are_preferred() -> None:
    face = random_face(1)
    assert salient_indices([features(0.40), features(0.41, face), features(0.42)], 1, SALIENT) == [1]
    # 0.2 and 0.8 are equally far from 0.5; the one with a face is selected
    assert salient_indices([features(0.2), features(0.5), features(0.5), features(0.8, face)], 2, SALIENT)[-1] == 3
    assert salient_indices([features(0.2, face), features(0.5), features(0.5), features(0.8)], 2, SALIENT)[0] == 0


def test_another_face_is_a_change_and_a_shifted_or_brighter_face_is_not() -> None:
    face, other = random_face(1), random_face(2)
    shifted = np.roll(face, (3, -2), axis=(0, 1))
    brighter = (face // 2 + 100).astype(np.uint8)
    assert salient_indices([features(0.5, face), features(0.5, face), features(0.5, other)], 2, SALIENT) == [0, 2]
    assert len(salient_indices([features(0.5, face), features(0.5, shifted), features(0.5, brighter)], 3, SALIENT)) == 1


def test_a_face_is_detected_in_a_portrait_and_not_in_a_room(
    real_data: Path, frames_config: Callable[..., FramesConfig], tmp_path: Path
) -> None:
    reader = FrameReader(frames_config("salient"), real_data / "clips", tmp_path)
    (frames,) = reader.frames_of(example(2.4, video="pyfeat_single_face.mp4"))
    assert 1 < len(frames) <= 4  # first serious, then smiling
    assert all(frame_features(frame).face is not None for frame in frames)
    assert frame_features(room("maroon")).face is None


def test_a_damaged_clip_is_a_warning(
    video_root: Path, tmp_path: Path, frames_config: Callable[..., FramesConfig], caplog: pytest.LogCaptureFixture
) -> None:
    reader = FrameReader(frames_config("salient", on_unreadable="warn"), video_root, tmp_path)
    with caplog.at_level(logging.WARNING, "fires_exp.data"):
        assert reader.frames_of(example(10.0, video="damaged.mp4")) == [[]]
    assert caplog.records[0].getMessage().startswith("damaged.mp4: ")


def error_of_salient(frames_config: Callable[..., FramesConfig], folder: Path) -> str:
    """The message for `frames=salient`; other choices must work."""
    with pytest.raises(ConfigError, match=r"^frames=salient") as raised:
        FrameReader(frames_config("salient"), folder, folder)
    FrameReader(frames_config("uniform"), folder, folder)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.fixture
def fresh_opencv() -> Iterator[None]:
    """OpenCV and its detector are loaded again in a test and after it."""
    for cached in (salience._cv2, salience._face_detector):
        cached.cache_clear()
    yield
    for cached in (salience._cv2, salience._face_detector):
        cached.cache_clear()


@pytest.mark.usefixtures("fresh_opencv")
def test_a_missing_package_is_an_error_of_the_constructor(
    monkeypatch: pytest.MonkeyPatch, frames_config: Callable[..., FramesConfig], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "meta_path", [NoOpenCv(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    assert "pip install fires-exp[salient]" in error_of_salient(frames_config, tmp_path)


@pytest.mark.usefixtures("fresh_opencv")
def test_the_error_of_a_package_that_cannot_be_imported_has_the_reason(
    monkeypatch: pytest.MonkeyPatch, frames_config: Callable[..., FramesConfig], tmp_path: Path
) -> None:
    (tmp_path / "cv2.py").write_text('raise ImportError("libGL.so.1: cannot open shared object file")\n')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cv2", raising=False)
    message = error_of_salient(frames_config, tmp_path)
    assert "(libGL.so.1: cannot open shared object file)" in message
    assert "pip install --force-reinstall opencv-python-headless" in message


@pytest.mark.usefixtures("fresh_opencv")
def test_the_error_of_a_missing_face_model_has_its_file(
    monkeypatch: pytest.MonkeyPatch, frames_config: Callable[..., FramesConfig], tmp_path: Path
) -> None:
    monkeypatch.setattr(salience, "_face_model_file", lambda: str(tmp_path / "faces.xml"))
    message = error_of_salient(frames_config, tmp_path)
    assert str(tmp_path / "faces.xml") in message
    assert "pip install --force-reinstall opencv-python-headless" in message
