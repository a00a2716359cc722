from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fires_exp.config.data import DatasetConfig
from fires_exp.data import dataset_cache
from fires_exp.data.dataset import Dataset, content_hash, read_dataset
from fires_exp.data.readers import jsonl as jsonl_reader
from fires_exp.data.readers import mesc as mesc_reader
from fires_exp.data.video.paths import history_videos
from fires_exp.errors import DataError

NOTES = "Dialogue_ID,Utterance_ID,visual_scene,emotion,situation,response_strategy\n0,2,a room,,a lie,ask\n"


class Corpora:
    """Reads small datasets through the cache, and counts how often their tables are parsed."""

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
    corpora = Corpora(tmp_path / "cache", dataset_config)

    def count(reader: Callable[..., object]) -> Callable[..., object]:
        def counting_reader(*arguments: object, **keywords: object) -> object:
            corpora.times_read += 1
            return reader(*arguments, **keywords)

        return counting_reader

    monkeypatch.setattr(dataset_cache, "MIN_CACHED_BYTES", 1)
    monkeypatch.setattr(mesc_reader, "read_mesc", count(mesc_reader.read_mesc))
    monkeypatch.setattr(jsonl_reader, "read_jsonl", count(jsonl_reader.read_jsonl))
    return corpora


@pytest.fixture
def mesc(mesc_folder: Callable[..., Path]) -> Path:
    root = mesc_folder()
    (root / "notes.csv").write_text(NOTES)
    return root


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    """A turn of a megabyte, a time without an exact decimal, and characters outside ASCII."""
    span = {"video": "a.mp4", "start_seconds": 0.1, "end_seconds": 1 / 3}
    turns = [
        {"speaker": "seeker", "text": "m" * 1_000_000, "emotions": ["joy", "fear"], **span},
        {"speaker": "supporter", "text": "😀 crème", "strategies": ["ask"], "thought": {"emotion": "glad"}},
    ]
    (tmp_path / "talks.jsonl").write_text(json.dumps({"id": "talk", "split": "train", "turns": turns}) + "\n")
    return tmp_path / "talks.jsonl"


def test_a_second_run_has_the_same_instances_and_parses_no_table(corpora: Corpora, mesc: Path, talks: Path) -> None:
    for name, root, times in (("mesc", mesc, 1), ("jsonl", talks, 2)):
        first, second = corpora.read(name, root), corpora.read(name, root)
        assert corpora.times_read == times
        assert second == first == read_dataset(corpora.config(name, root), seed=42, cache=None)
        assert content_hash(second.examples["train"], None) == content_hash(first.examples["train"], None)
        corpora.times_read = times
    assert corpora.read("mesc", mesc).examples["train"][0].notes == {"visual_scene": "a room", "situation": "a lie"} | {
        "response_strategy": "ask"
    }


@pytest.mark.parametrize("table", ["MESC.csv", "split_ids.json", "notes.csv"])
def test_a_table_with_new_content_of_the_same_size_is_parsed_again(corpora: Corpora, mesc: Path, table: str) -> None:
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


def test_an_entry_depends_on_the_video_pattern_and_not_on_the_folder(corpora: Corpora, mesc: Path, tmp_path: Path) -> None:
    corpora.read("mesc", mesc)
    assert history_videos(corpora.read("mesc", mesc, video_pattern="e{episode}.mp4").examples["train"]) == ["e1.mp4"]
    shutil.copytree(mesc, tmp_path / "moved", ignore=shutil.ignore_patterns("cache"))
    corpora.read("mesc", tmp_path / "moved")
    assert corpora.times_read == 2


@pytest.mark.parametrize("damage", ["flipped bit", "truncated", "empty", "folder", "json only", "no hash"])
def test_a_damaged_entry_is_replaced(corpora: Corpora, mesc: Path, talks: Path, damage: str) -> None:
    before = corpora.read("mesc", mesc)
    (entry,) = corpora.entries
    content = entry.read_bytes()
    if damage == "flipped bit":
        entry.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    elif damage == "folder":
        entry.unlink()
        entry.mkdir()
    else:
        damaged = {"truncated": content[: len(content) // 2], "empty": b"", "json only": b"[]\n", "no hash": content[65:]}
        entry.write_bytes(damaged[damage])
    assert corpora.read("mesc", mesc) == before
    assert corpora.times_read == 2
    if damage != "folder":
        assert corpora.entries == [entry]
        assert entry.read_bytes() == content


def test_a_dataset_with_bad_rows_is_not_cached(
    corpora: Corpora, mesc_folder: Callable[..., Path], mesc_rows: Sequence[str]
) -> None:
    root = mesc_folder([*mesc_rows, mesc_rows[-1]])
    for _ in range(2):
        assert len(corpora.read("mesc", root, on_bad_row="skip").bad_rows) == 1
        with pytest.raises(DataError, match=r"^MESC\.csv:9: Utterance_ID 2 of Dialogue_ID 1 .*line 8"):
            corpora.read("mesc", root)
    assert not (corpora.cache / "datasets").exists()


def test_a_cache_that_cannot_be_written_is_a_warning(
    corpora: Corpora, mesc: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    corpora.cache = tmp_path / "file"
    corpora.cache.write_text("")
    assert corpora.read("mesc", mesc) == read_dataset(corpora.config("mesc", mesc), seed=42, cache=None)
    (message,) = caplog.messages
    assert f"{corpora.cache / 'datasets'} (Not a directory)" in message


def test_a_small_dataset_is_not_cached(corpora: Corpora, mesc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_cache, "MIN_CACHED_BYTES", 10_000)
    corpora.read("mesc", mesc)
    assert not corpora.cache.exists()


def test_tables_that_change_during_the_reading_are_not_cached(
    corpora: Corpora, mesc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = mesc_reader.read_mesc

    def read_and_change(root: Path, **keywords: object) -> object:
        conversations = reader(root, **keywords)  # type: ignore[arg-type]
        (root / "notes.csv").write_text(NOTES.replace("ask", "nod"))
        return conversations

    monkeypatch.setattr(mesc_reader, "read_mesc", read_and_change)
    first = corpora.read("mesc", mesc)
    assert not (corpora.cache / "datasets").exists()
    assert replace(corpora.read("mesc", mesc), examples={}) == replace(first, examples={})
    assert corpora.read("mesc", mesc).examples["train"][0].notes["response_strategy"] == "nod"
