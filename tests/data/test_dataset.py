from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fires_exp.config.data import DatasetConfig, LimitConfig
from fires_exp.data.dataset import content_hash, read_dataset
from fires_exp.data.records import Clip, SupportExample, Utterance
from fires_exp.errors import DataError

MakeConfig = Callable[..., DatasetConfig]


@pytest.fixture
def thirty_talks(tmp_path: Path) -> Path:
    """Ten one-instance conversations a split."""

    def line(number: int) -> str:
        split = ("train", "val", "test")[number % 3]
        turns = [{"speaker": "seeker", "text": "Hm."}, {"speaker": "supporter", "text": "Go on."}]
        return json.dumps({"id": f"talk{number}", "split": split, "turns": turns})

    (tmp_path / "talks.jsonl").write_text("\n".join(map(line, range(30))))
    return tmp_path / "talks.jsonl"


def ids(examples: tuple[SupportExample, ...]) -> list[str]:
    return [example.id for example in examples]


def test_instances_come_by_split_in_the_order_of_the_corpus(dataset_config: MakeConfig, mesc_folder: Callable[..., Path]) -> None:
    dataset = read_dataset(dataset_config("mesc", mesc_folder()), seed=42, cache=None)
    assert {split: ids(examples) for split, examples in dataset.examples.items()} == {
        "train": ["mesc-0-1"],
        "val": [],
        "test": ["mesc-1-2"],
    }
    assert (dataset.name, dataset.bad_rows, dataset.video_root) == ("mesc", (), None)


def test_a_limit_draws_by_seed_and_keeps_the_order(dataset_config: MakeConfig, thirty_talks: Path) -> None:
    def train(count: int | None, *, val: int | None, seed: int) -> list[str]:
        limit = LimitConfig(train=count, val=val, test=None)
        return ids(read_dataset(dataset_config("jsonl", thirty_talks, limit=limit), seed, cache=None).examples["train"])

    every = train(None, val=None, seed=42)
    drawn = train(4, val=None, seed=42)
    assert len(every) == 10
    assert len(drawn) == 4
    assert drawn == [one for one in every if one in drawn]
    assert drawn == train(4, val=2, seed=42)
    assert set(drawn) < set(train(6, val=None, seed=42))
    assert any(drawn != train(4, val=None, seed=seed) for seed in range(5))
    assert train(99, val=None, seed=42) == every


def test_bad_rows_left_out_are_listed(dataset_config: MakeConfig, thirty_talks: Path) -> None:
    thirty_talks.write_text(thirty_talks.read_text() + "\n{}\n")
    dataset = read_dataset(dataset_config("jsonl", thirty_talks, on_bad_row="skip"), seed=42, cache=None)
    assert [str(row) for row in dataset.bad_rows] == ["talks.jsonl:31: the conversation has no id, split, turns; mend the row"]


def test_places_that_are_not_there_are_named(dataset_config: MakeConfig, mesc_folder: Callable[..., Path]) -> None:
    nowhere = mesc_folder() / "nowhere"
    for name in ("mesc", "emotyda_esc"):
        with pytest.raises(DataError, match=rf"^no such folder {nowhere}; write dataset\.root=<folder of the {name} data>$"):
            read_dataset(dataset_config(name, nowhere), seed=42, cache=None)
    with pytest.raises(DataError, match=rf"^no such file or folder {nowhere}; "):
        read_dataset(dataset_config("jsonl", nowhere), seed=42, cache=None)
    with pytest.raises(DataError, match=rf"^no such folder {nowhere}; write dataset\.video_root="):
        read_dataset(dataset_config("mesc", mesc_folder(), video_root=str(nowhere)), seed=42, cache=None)
    with pytest.raises(DataError, match=r"^dataset\.root=.*: the sample has its own"):
        read_dataset(dataset_config("sample", nowhere), seed=42, cache=None)


def test_a_dataset_without_an_instance_is_refused(dataset_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "talks.jsonl").write_text("\n[]\n")
    with pytest.raises(DataError, match=r"has no instance: .*; 1 rows were left out, the first: talks\.jsonl:2: "):
        read_dataset(dataset_config("jsonl", tmp_path, on_bad_row="skip"), seed=42, cache=None)


def test_instance_ids_are_unique(dataset_config: MakeConfig, thirty_talks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = SupportExample(id="x-1", split="test", history=(), target=Utterance(speaker="supporter", text="Hm."), source="a.csv:2")
    monkeypatch.setattr("fires_exp.data.dataset.read_emotyda_esc", lambda *_, **__: (one, replace(one, source="a.csv:9")))
    with pytest.raises(DataError, match=r"^instance id x-1 stands in a\.csv:2 and in a\.csv:9; rename one$"):
        read_dataset(dataset_config("emotyda_esc", thirty_talks.parent), seed=42, cache=None)


def test_a_video_outside_the_video_root_is_refused_before_anything_runs(
    dataset_config: MakeConfig, tmp_path: Path, mesc_folder: Callable[..., Path]
) -> None:
    config = dataset_config("mesc", mesc_folder(), video_root=str(tmp_path), video_pattern="../S{season}.mp4")
    with pytest.raises(DataError, match=r"^video '\.\./S1\.mp4' is refused"):
        read_dataset(config, seed=42, cache=None)


class TestContentHash:
    seeker = Utterance(
        speaker="seeker", text="Hm.", emotions=("joy",), clip=Clip(video="a.mp4", start_seconds=0.0, end_seconds=1.0)
    )
    one = SupportExample(
        id="a-1",
        split="train",
        history=(seeker,),
        target=Utterance(speaker="supporter", text="Go on.", strategies=("approval",)),
        notes={"emotion": "glad", "situation": "none"},
    )

    def test_it_stays_for_the_same_content(self) -> None:
        again = replace(self.one, notes={"situation": "none", "emotion": "glad"}, source="elsewhere.csv:3")
        assert content_hash([again], None) == content_hash([self.one], None)
        assert len(content_hash([self.one], None)) == 64

    @pytest.mark.parametrize(
        "other",
        [
            replace(one, id="a-2"),
            replace(one, split="val"),
            replace(one, notes={}),
            replace(one, target=replace(one.target, text="Go on!")),
            replace(one, target=replace(one.target, strategies=())),
            replace(one, history=(replace(seeker, emotions=("fear",)),)),
            replace(one, history=(replace(seeker, clip=None),)),
            replace(one, history=(replace(seeker, clip=Clip(video="a.mp4", start_seconds=0.0, end_seconds=1.5)),)),
            replace(one, history=(seeker, seeker)),
        ],
        ids=["id", "split", "notes", "text", "strategies", "emotions", "no clip", "span", "turns"],
    )
    def test_it_changes_with_the_content(self, other: SupportExample) -> None:
        assert content_hash([other], None) != content_hash([self.one], None)

    def test_a_turn_that_many_instances_share_is_hashed_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        talk = tuple(replace(self.seeker, text=f"{n} days.") for n in range(20))
        instances = [replace(self.one, id=f"a-{n}", history=talk[:n]) for n in range(1, 21)]
        hashed: list[bytes] = []
        sha256 = hashlib.sha256
        monkeypatch.setattr("hashlib.sha256", lambda content=b"": hashed.append(content) or sha256(content))  # type: ignore[func-returns-value]
        assert content_hash(instances, None) == content_hash(
            [replace(one, history=tuple(map(replace, one.history))) for one in instances], None
        )
        assert sum(b"days" in content for content in hashed) == 20 + sum(range(1, 21))  # the copies share nothing

    def test_it_changes_with_the_order(self) -> None:
        other = replace(self.one, id="b-1")
        assert content_hash([self.one, other], None) != content_hash([other, self.one], None)

    def test_it_changes_when_a_video_appears_or_changes(self, tmp_path: Path) -> None:
        hashes = {content_hash([self.one], None)}
        assert content_hash([self.one], tmp_path) in hashes
        video = tmp_path / "a.mp4"
        video.write_bytes(b"one")
        hashes.add(content_hash([self.one], tmp_path))
        video.write_bytes(b"longer")
        hashes.add(content_hash([self.one], tmp_path))
        os.utime(video, ns=(0, 1))
        hashes.add(content_hash([self.one], tmp_path))
        assert len(hashes) == 4


def test_the_video_root_does_not_stand_in_the_hash(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    (tmp_path / "here" / "a.mp4").write_bytes(b"one")
    shutil.copy2(tmp_path / "here" / "a.mp4", tmp_path / "there" / "a.mp4")
    one = TestContentHash.one
    assert content_hash([one], tmp_path / "here") == content_hash([one], tmp_path / "there")
