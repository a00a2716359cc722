from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from fires_exp.config.data import DatasetConfig
from fires_exp.data.dataset import read_dataset
from fires_exp.data.summary import describe_dataset

MakeConfig = Callable[..., DatasetConfig]


def test_the_summary_of_a_small_corpus(
    dataset_config: MakeConfig, mesc_folder: Callable[..., Path], mesc_rows: Sequence[str], tmp_path: Path
) -> None:
    root = mesc_folder([*mesc_rows, "Bad.,Client,anger,undefined,1,3,1,2,,", "I see you.,Therapist,neutral,Approval,1,4,1,2,,"])
    (root / "notes.csv").write_text("Dialogue_ID,Utterance_ID,visual_scene,emotion,situation,response_strategy\n0,2,,sad,,\n")
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "S01E01.mp4").write_bytes(b"video")
    facts = describe_dataset(read_dataset(dataset_config("mesc", root, video_root=str(videos)), seed=42, cache=None))
    assert facts == {
        "name": "mesc",
        "instances": {"train": 1, "val": 0, "test": 2},
        "instances_with_notes": 1,
        "conversations": 2,
        "turns_a_history": {"mean": 2.33, "median": 2, "max": 4},
        "words_a_response": {"mean": 3.67, "median": 3, "max": 5},
        "emotions": {
            "targets": {"neutral": 3},
            "last_seeker_turns": {"anger": 2, "joy": 1, "sadness": 1},
        },
        "strategies": {"targets": {"open question": 2, "approval": 1}, "last_seeker_turns": {}},
        "turns": 5,
        "turns_with_clips": 4,
        "videos": {"files": 2, "missing": 1, "first_missing": ["S01E02.mp4"]},
        "bad_rows": 0,
    }
    assert json.loads(json.dumps(facts)) == facts


def test_without_a_video_root_there_are_no_counts_of_videos(dataset_config: MakeConfig, mesc_folder: Callable[..., Path]) -> None:
    facts = describe_dataset(read_dataset(dataset_config("mesc", mesc_folder()), seed=42, cache=None))
    assert facts["videos"] is None


def test_the_summary_of_the_real_corpus(dataset_config: MakeConfig, real_data: Path) -> None:
    facts = describe_dataset(read_dataset(dataset_config("mesc", real_data / "mesc"), seed=42, cache=None))
    assert facts["instances"] == {"train": 3721, "val": 445, "test": 454}
    assert facts["conversations"] == 1018  # one dialogue has no instance
