from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fires_exp.config.data import DatasetConfig, DatasetName, LimitConfig
from fires_exp.data.dataset import content_hash, read_dataset
from fires_exp.data.readers.interface import DatasetReader, ReadRequest
from fires_exp.data.readers.registry import READERS
from fires_exp.data.records import Clip, SupportExample, Utterance
from fires_exp.errors import DataError

MakeConfig = Callable[..., DatasetConfig]


@pytest.fixture
def thirty_talks(tmp_path: Path) -> Path:
    """Ten conversations per split, each with one instance."""

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
    assert drawn == [example_id for example_id in every if example_id in drawn]
    assert drawn == train(4, val=2, seed=42)
    assert set(drawn) < set(train(6, val=None, seed=42))
    assert any(drawn != train(4, val=None, seed=seed) for seed in range(5))
    assert train(99, val=None, seed=42) == every


def test_bad_rows_left_out_are_listed(dataset_config: MakeConfig, thirty_talks: Path) -> None:
    thirty_talks.write_text(thirty_talks.read_text() + "\n{}\n")
    dataset = read_dataset(dataset_config("jsonl", thirty_talks, on_bad_row="skip"), seed=42, cache=None)
    (row,) = dataset.bad_rows
    assert (row.file, row.line) == ("talks.jsonl", 31)
    assert "id, split, turns" in row.problem


@pytest.mark.parametrize("name", ["mesc", "emotyda_esc", "jsonl"])
def test_a_missing_root_is_an_error_that_names_key_and_dataset(dataset_config: MakeConfig, tmp_path: Path, name: str) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(DataError, match=rf"^dataset\.root={missing} .*write dataset\.root=<.*{name}") as raised:
        read_dataset(dataset_config(name, missing), seed=42, cache=None)
    assert ("file" in str(raised.value)) == (name == "jsonl")


@pytest.mark.parametrize("name", ["mesc", "emotyda_esc"])
def test_a_file_as_root_is_an_error(dataset_config: MakeConfig, tmp_path: Path, name: str) -> None:
    (tmp_path / "a.jsonl").write_text("")
    with pytest.raises(DataError, match=rf"^dataset\.root={tmp_path / 'a.jsonl'} "):
        read_dataset(dataset_config(name, tmp_path / "a.jsonl"), seed=42, cache=None)


def test_a_missing_video_root_is_an_error(dataset_config: MakeConfig, mesc_folder: Callable[..., Path]) -> None:
    missing = mesc_folder() / "missing"
    with pytest.raises(DataError, match=rf"^dataset\.video_root={missing} .*write dataset\.video_root="):
        read_dataset(dataset_config("mesc", mesc_folder(), video_root=str(missing)), seed=42, cache=None)


def test_a_root_for_the_sample_is_an_error(dataset_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"^dataset\.root={tmp_path} .*dataset=mesc"):
        read_dataset(dataset_config("sample", tmp_path), seed=42, cache=None)


def test_the_reader_of_a_dataset_is_the_entry_of_its_name(dataset_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[ReadRequest] = []
    example = SupportExample(id="x-1", split="test", history=(), target=Utterance(speaker="supporter", text="Hm."))

    def read(request: ReadRequest) -> tuple[SupportExample, ...]:
        requests.append(request)
        return (example,)

    monkeypatch.setitem(READERS, "jsonl", DatasetReader(read=read, shipped_videos=Path("/videos")))  # type: ignore[arg-type]
    dataset = read_dataset(dataset_config("jsonl", "/somewhere"), seed=42, cache=None)
    assert dataset.examples["test"] == (example,)
    assert dataset.video_root == Path("/videos")
    assert [(request.dataset, request.root, request.cache) for request in requests] == [("jsonl", "/somewhere", None)]


def test_every_dataset_name_has_a_reader_and_options() -> None:
    options = Path(__file__).parents[2] / "conf" / "dataset"
    assert set(READERS) == set(DatasetName) == {path.stem for path in options.glob("*.yaml")}


def test_a_dataset_without_an_instance_is_refused(dataset_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "talks.jsonl").write_text("\n[]\n")
    with pytest.raises(DataError, match=r"^dataset=jsonl has no instance: .* 1 bad rows .* talks\.jsonl:2: "):
        read_dataset(dataset_config("jsonl", tmp_path, on_bad_row="skip"), seed=42, cache=None)


def test_instance_ids_are_unique(dataset_config: MakeConfig, thirty_talks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = SupportExample(
        id="x-1", split="test", history=(), target=Utterance(speaker="supporter", text="Hm."), source="a.csv:2"
    )
    both = (first, replace(first, source="a.csv:9"))
    monkeypatch.setattr("fires_exp.data.readers.emotyda.read_emotyda_esc", lambda *_, **__: both)
    with pytest.raises(DataError, match=r"^instance id x-1 .*a\.csv:2 .*a\.csv:9"):
        read_dataset(dataset_config("emotyda_esc", thirty_talks.parent), seed=42, cache=None)


def test_a_video_outside_the_video_root_is_refused_when_the_dataset_is_read(
    dataset_config: MakeConfig, tmp_path: Path, mesc_folder: Callable[..., Path]
) -> None:
    config = dataset_config("mesc", mesc_folder(), video_root=str(tmp_path), video_pattern="../S{season}.mp4")
    with pytest.raises(DataError, match=r"^video '\.\./S1\.mp4'.*dataset\.video_root="):
        read_dataset(config, seed=42, cache=None)


class TestContentHash:
    seeker = Utterance(
        speaker="seeker", text="Hm.", emotions=("joy",), clip=Clip(video="a.mp4", start_seconds=0.0, end_seconds=1.0)
    )
    example = SupportExample(
        id="a-1",
        split="train",
        history=(seeker,),
        target=Utterance(speaker="supporter", text="Go on.", strategies=("approval",)),
        notes={"emotion": "glad", "situation": "none"},
    )

    def test_equal_content_has_an_equal_hash(self) -> None:
        equal = replace(self.example, notes={"situation": "none", "emotion": "glad"}, source="elsewhere.csv:3")
        assert content_hash([equal], None) == content_hash([self.example], None)
        assert len(content_hash([self.example], None)) == 64

    @pytest.mark.parametrize(
        "other",
        [
            replace(example, id="a-2"),
            replace(example, split="val"),
            replace(example, notes={}),
            replace(example, target=replace(example.target, text="Go on!")),
            replace(example, target=replace(example.target, strategies=())),
            replace(example, history=(replace(seeker, emotions=("fear",)),)),
            replace(example, history=(replace(seeker, clip=None),)),
            replace(example, history=(replace(seeker, clip=Clip(video="a.mp4", start_seconds=0.0, end_seconds=1.5)),)),
            replace(example, history=(seeker, seeker)),
        ],
        ids=["id", "split", "notes", "text", "strategies", "emotions", "no clip", "span", "turns"],
    )
    def test_it_changes_with_the_content(self, other: SupportExample) -> None:
        assert content_hash([other], None) != content_hash([self.example], None)

    def test_a_turn_of_many_instances_is_hashed_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        talk = tuple(replace(self.seeker, text=f"{n} days.") for n in range(20))
        instances = [replace(self.example, id=f"a-{n}", history=talk[:n]) for n in range(1, 21)]
        hashed: list[bytes] = []
        sha256 = hashlib.sha256
        monkeypatch.setattr("hashlib.sha256", lambda content=b"": hashed.append(content) or sha256(content))  # type: ignore[func-returns-value]
        assert content_hash(instances, None) == content_hash(
            [replace(instance, history=tuple(map(replace, instance.history))) for instance in instances], None
        )
        assert sum(b"days" in content for content in hashed) == 20 + sum(range(1, 21))  # the copies share nothing

    def test_it_changes_with_the_order(self) -> None:
        other = replace(self.example, id="b-1")
        assert content_hash([self.example, other], None) != content_hash([other, self.example], None)

    def test_it_changes_when_a_video_appears_or_changes(self, tmp_path: Path) -> None:
        hashes = {content_hash([self.example], None)}
        assert content_hash([self.example], tmp_path) in hashes
        video = tmp_path / "a.mp4"
        video.write_bytes(b"one")
        hashes.add(content_hash([self.example], tmp_path))
        video.write_bytes(b"longer")
        hashes.add(content_hash([self.example], tmp_path))
        os.utime(video, ns=(0, 1))
        hashes.add(content_hash([self.example], tmp_path))
        assert len(hashes) == 4


def test_the_hash_does_not_depend_on_the_path_of_the_video_root(tmp_path: Path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    (tmp_path / "here" / "a.mp4").write_bytes(b"one")
    shutil.copy2(tmp_path / "here" / "a.mp4", tmp_path / "there" / "a.mp4")
    example = TestContentHash.example
    assert content_hash([example], tmp_path / "here") == content_hash([example], tmp_path / "there")
