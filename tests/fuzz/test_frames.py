"""Random spans and videos: the frames exist, are in order, and are no more than requested."""

import math
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from making import SALIENT
from PIL import Image

from fires_exp.config.data import FramesConfig
from fires_exp.data.records import Clip, SupportExample, Utterance
from fires_exp.data.video.frame_selection import allocate_frames, key_frame_indices, thin_evenly, uniform_indices
from fires_exp.data.video.frames import FrameReader
from fires_exp.data.video.paths import episode_name, video_path
from fires_exp.errors import DataError, FrameError

# durations of frames, some of them 0: timestamps of broken files repeat
lengths = st.lists(st.floats(0, 3), min_size=1, max_size=40)
seconds = st.one_of(st.floats(0, 40), st.floats(allow_nan=True, allow_infinity=True))


@given(lengths, st.floats(0, 40), st.floats(0.001, 40), st.integers(1, 20), st.data())
def test_frames_of_a_span_exist_are_in_order_and_no_more_than_requested(steps, start, length, count, data):
    starts = np.cumsum([0.0, *steps[:-1]])
    keys = sorted(data.draw(st.sets(st.integers(0, len(steps) - 1))))
    for indices in (
        uniform_indices(starts, start, start + length, count),
        key_frame_indices(starts, keys, start, start + length, count),
    ):
        assert 1 <= len(indices) <= count
        assert indices == sorted(set(indices))
        assert 0 <= indices[0] <= indices[-1] < len(starts)


@given(st.lists(st.integers(), unique=True, max_size=50).map(sorted), st.integers(1, 20))
def test_thinning_returns_a_sublist_in_order(indices, count):
    thinned = thin_evenly(indices, count)
    assert len(thinned) == min(len(indices), count)
    assert thinned == [index for index in indices if index in set(thinned)]


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 64), st.integers(1, 8))
def test_only_turns_with_a_clip_get_frames_and_their_numbers_differ_by_at_most_one(has_clip, max_frames, max_frames_per_turn):
    counts = allocate_frames(has_clip, max_frames=max_frames, max_frames_per_turn=max_frames_per_turn)
    with_clip = [count for count, clip in zip(counts, has_clip, strict=True) if clip]
    assert sum(counts) == sum(with_clip) == min(max_frames, max_frames_per_turn * len(with_clip))
    assert not with_clip or max(with_clip) - min(with_clip) <= 1


class StillVideo:
    """A video of black frames with given durations."""

    def __init__(self, steps):
        self.start_seconds = np.cumsum([0.0, *steps[:-1]])
        self.duration_seconds = float(sum(steps))
        self.key_indices = [0, len(steps) // 2]

    def frames(self, indices):
        assert all(0 <= index < len(self.start_seconds) for index in indices)
        return [Image.new("RGB", (28, 28)) for _ in indices]


@given(lengths, seconds, seconds, st.sampled_from(["keyframes", "uniform", "salient"]))
def test_a_clip_with_any_times_gives_frames_or_an_error(steps, start, end, name):
    config = FramesConfig(name=name, max_frames=4, max_frames_per_turn=4, max_pixels=784, on_unreadable="error", salient=SALIENT)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "v.mp4").touch()
        reader = FrameReader(config, Path(folder), Path(folder) / "cache")
        reader._open_videos.get = lambda path, identity: StillVideo(steps)
        turn = Utterance(speaker="seeker", text="…", clip=Clip(video="v.mp4", start_seconds=start, end_seconds=end))
        target = Utterance(speaker="supporter", text="I see.")
        try:
            (frames,) = reader.frames_of(SupportExample(id="a", split="train", history=(turn,), target=target))
        except FrameError as error:
            assert str(error).startswith("v.mp4: the clip from ")
            assert not (math.isfinite(start) and math.isfinite(end) and 0 <= start < min(end, sum(steps)))
        else:
            assert 1 <= len(frames) <= 4


names = st.one_of(
    st.text(max_size=20),
    st.lists(st.sampled_from(["..", ".", "/", "a", "\\", "C:", "~", "\0", "out", "\ud800"]), max_size=6).map("".join),
)


@given(names)
def test_no_name_leads_out_of_the_video_root(name):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "videos"
        root.mkdir()
        (root / "out").symlink_to(folder)
        try:
            path = video_path(root, name)
        except DataError as error:
            assert len(str(error).splitlines()) == 1
        else:
            assert path.resolve().is_relative_to(root.resolve())


@given(st.text(max_size=20), st.integers(0, 10**9), st.integers(0, 10**9))
def test_any_pattern_gives_a_file_name_or_an_error(pattern, season, episode):
    try:
        assert isinstance(episode_name(pattern, season, episode), str)
    except DataError as error:
        assert "dataset.video_pattern" in str(error)
