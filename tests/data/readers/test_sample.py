from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from fires_exp.config.data import DatasetConfig, FramesConfig
from fires_exp.data.dataset import Dataset, read_dataset
from fires_exp.data.readers.row_errors import RowProblems
from fires_exp.data.readers.sample import SAMPLE_ROOT, read_sample
from fires_exp.data.readers.utterances import NOTE_ASPECTS
from fires_exp.data.summary import describe_dataset
from fires_exp.data.video.frames import FrameReader


@pytest.fixture
def sample(dataset_config: Callable[..., DatasetConfig]) -> Dataset:
    return read_dataset(dataset_config("sample", None), seed=42, cache=None)


def test_the_sample_has_64_conversations_in_three_splits() -> None:
    conversations = read_sample(video_pattern="S{season:02d}E{episode:02d}.mp4", problems=RowProblems("error"))
    counts = {split: sum(talk.split == split for talk in conversations) for split in ("train", "val", "test")}
    assert counts == {"train": 48, "val": 8, "test": 8}


def test_the_sample_has_thoughts_for_its_supporter_turns(sample: Dataset) -> None:
    with (SAMPLE_ROOT / "notes.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) > 60
    examples = [example for split in sample.examples.values() for example in split]
    assert sum(bool(example.notes) for example in examples) > len(examples) / 2
    assert {aspect for example in examples for aspect in example.notes} == set(NOTE_ASPECTS)


def test_the_sample_has_all_its_videos(sample: Dataset) -> None:
    facts = describe_dataset(sample)
    assert isinstance(facts["videos"], dict)
    assert facts["videos"]["files"] > 0
    assert facts["videos"]["first_missing"] == []


def test_every_clip_of_the_sample_has_frames(sample: Dataset, frames_config: Callable[..., FramesConfig], tmp_path: Path) -> None:
    reader = FrameReader(frames_config("keyframes", max_frames=64, max_frames_per_turn=1), sample.video_root, tmp_path)
    longest = {example.id.rpartition("-")[0]: example for split in sample.examples.values() for example in split}
    for example in longest.values():
        frames = reader.frames_of(example)
        assert [len(turn) for turn in frames] == [int(turn.clip is not None) for turn in example.history]
        assert any(frames)


def test_another_video_root_can_be_configured(dataset_config: Callable[..., DatasetConfig], tmp_path: Path) -> None:
    dataset = read_dataset(dataset_config("sample", None, video_root=str(tmp_path)), seed=42, cache=None)
    assert dataset.video_root == tmp_path
