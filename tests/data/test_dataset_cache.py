from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fires_exp.config.data import DatasetConfig
from fires_exp.data import dataset, dataset_cache
from fires_exp.data.dataset import Dataset, content_hash, read_dataset
from fires_exp.data.video.paths import history_videos
from fires_exp.errors import DataError

NOTES = "Dialogue_ID,Utterance_ID,visual_scene,emotion,situation,response_strategy\n0,2,a room,,a lie,ask\n"


class Corpora:
    """Reads small datasets as if they were large ones, and counts how often their tables are read."""

    def __init__(self, cache: Path, config: Callable[..., DatasetConfig]) -> None:
        self.cache = cache
        self.config = config
        self.times_read = 0

    def read(self, name: str, root: Path, **changes: object) -> Dataset:
        return read_dataset(self.config(name, root, **changes), seed=42, cache=self.cache)

    @property
    def entries(self) -> list[Path]:
        return sorted((self.cache / "datasets").iterdir())


@pytest.fixture
def corpora(tmp_path: Path, dataset_config: Callable[..., DatasetConfig], monkeypatch: pytest.MonkeyPatch) -> Corpora:
    made = Corpora(tmp_path / "cache", dataset_config)

    def counted(reader: Callable[..., object]) -> Callable[..., object]:
        def run(*given: object, **named: object) -> object:
            made.times_read += 1
            return reader(*given, **named)

        return run

    monkeypatch.setattr(dataset_cache, "WORTH_KEEPING_BYTES", 1)
    monkeypatch.setattr(dataset, "read_mesc", counted(dataset.read_mesc))
    monkeypatch.setattr(dataset, "read_jsonl", counted(dataset.read_jsonl))
    return made


@pytest.fixture
def mesc(mesc_folder: Callable[..., Path]) -> Path:
    root = mesc_folder()
    (root / "notes.csv").write_text(NOTES)
    return root


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    """A megabyte of one turn, times that no decimal holds, a character outside every old encoding."""
    span = {"video": "a.mp4", "start_seconds": 0.1, "end_seconds": 1 / 3}
    turns = [
        {"speaker": "seeker", "text": "m" * 1_000_000, "emotions": ["joy", "fear"], **span},
        {"speaker": "supporter", "text": "😀 crème", "strategies": ["ask"], "thought": {"emotion": "glad"}},
    ]
    (tmp_path / "talks.jsonl").write_text(json.dumps({"id": "talk", "split": "train", "turns": turns}) + "\n")
    return tmp_path / "talks.jsonl"


def test_a_second_start_has_the_same_instances_and_reads_no_table(corpora: Corpora, mesc: Path, talks: Path) -> None:
    for name, root, times in (("mesc", mesc, 1), ("jsonl", talks, 2)):
        once, again = corpora.read(name, root), corpora.read(name, root)
        assert corpora.times_read == times
        assert again == once == read_dataset(corpora.config(name, root), seed=42, cache=None)
        assert content_hash(again.examples["train"], None) == content_hash(once.examples["train"], None)
        corpora.times_read = times
    assert corpora.read("mesc", mesc).examples["train"][0].notes == {"visual_scene": "a room", "situation": "a lie"} | {
        "response_strategy": "ask"
    }


@pytest.mark.parametrize("table", ["MESC.csv", "split_ids.json", "notes.csv"])
def test_a_table_that_changes_is_read_again_even_if_its_time_and_size_stay(corpora: Corpora, mesc: Path, table: str) -> None:
    before = corpora.read("mesc", mesc)
    changed = {"MESC.csv": ("Twice.", "Thrice"), "split_ids.json": ('"val": []', '"val": [ ]'), "notes.csv": ("ask", "nod")}
    path = mesc / table
    path.write_text(path.read_text().replace(*changed[table]))
    after = corpora.read("mesc", mesc)
    assert corpora.times_read == 2
    assert (after == before) == (table == "split_ids.json")
    path.write_text(path.read_text().replace(*reversed(changed[table])))
    assert corpora.read("mesc", mesc) == before
    assert corpora.times_read == 2


def test_another_pattern_of_videos_is_another_entry_and_another_folder_is_not(
    corpora: Corpora, mesc: Path, tmp_path: Path
) -> None:
    corpora.read("mesc", mesc)
    assert history_videos(corpora.read("mesc", mesc, video_pattern="e{episode}.mp4").examples["train"]) == ["e1.mp4"]
    shutil.copytree(mesc, tmp_path / "moved", ignore=shutil.ignore_patterns("cache"))
    corpora.read("mesc", tmp_path / "moved")
    assert corpora.times_read == 2


@pytest.mark.parametrize("damage", ["a bit", "half", "empty", "a folder", "another's", "no hash"])
def test_a_damaged_entry_is_made_again(corpora: Corpora, mesc: Path, talks: Path, damage: str) -> None:
    before = corpora.read("mesc", mesc)
    (entry,) = corpora.entries
    whole = entry.read_bytes()
    if damage == "a bit":
        entry.write_bytes(whole[:-20] + bytes([whole[-20] ^ 1]) + whole[-19:])
    elif damage == "a folder":
        entry.unlink()
        entry.mkdir()
    else:
        entry.write_bytes({"half": whole[: len(whole) // 2], "empty": b"", "another's": b"[]\n", "no hash": whole[65:]}[damage])
    assert corpora.read("mesc", mesc) == before
    assert corpora.times_read == 2
    if damage != "a folder":
        assert corpora.entries == [entry]
        assert entry.read_bytes() == whole


def test_bad_rows_are_told_at_every_start(corpora: Corpora, mesc_folder: Callable[..., Path], mesc_rows: Sequence[str]) -> None:
    root = mesc_folder([*mesc_rows, mesc_rows[-1]])
    for _ in range(2):
        assert len(corpora.read("mesc", root, on_bad_row="skip").bad_rows) == 1
        with pytest.raises(DataError, match=r"^MESC\.csv:9: Utterance_ID 2 of Dialogue_ID 1 stands in line 8 already"):
            corpora.read("mesc", root)
    assert not (corpora.cache / "datasets").exists()


def test_a_cache_that_cannot_be_written_is_a_warning(
    corpora: Corpora, mesc: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    corpora.cache = tmp_path / "a file"
    corpora.cache.write_text("")
    assert corpora.read("mesc", mesc) == read_dataset(corpora.config("mesc", mesc), seed=42, cache=None)
    assert caplog.messages == [
        f"cannot keep the dataset in {corpora.cache / 'datasets'} (Not a directory); the next start reads its tables again"
    ]


def test_a_small_dataset_is_not_kept(corpora: Corpora, mesc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_cache, "WORTH_KEEPING_BYTES", 10_000)
    corpora.read("mesc", mesc)
    assert not corpora.cache.exists()


def test_tables_that_change_while_they_are_read_are_not_kept(
    corpora: Corpora, mesc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = dataset.read_mesc

    def slow(root: Path, **named: object) -> object:
        conversations = reader(root, **named)  # type: ignore[arg-type]
        (root / "notes.csv").write_text(NOTES.replace("ask", "nod"))
        return conversations

    monkeypatch.setattr(dataset, "read_mesc", slow)
    first = corpora.read("mesc", mesc)
    assert not (corpora.cache / "datasets").exists()
    assert replace(corpora.read("mesc", mesc), examples={}) == replace(first, examples={})
    assert corpora.read("mesc", mesc).examples["train"][0].notes["response_strategy"] == "nod"
