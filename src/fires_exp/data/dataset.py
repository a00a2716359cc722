"""From the `dataset` keys of the configuration to the instances of each split."""

from __future__ import annotations

import gc
import hashlib
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fires_exp.config.data import DatasetConfig
from fires_exp.data.readers.interface import DatasetReader, ReadRequest
from fires_exp.data.readers.registry import READERS
from fires_exp.data.readers.row_errors import BadRow, RowProblems
from fires_exp.data.records import SPLITS, Split, SupportExample, Utterance
from fires_exp.data.video.paths import history_videos, video_identity, video_path
from fires_exp.errors import DataError

# Above this number the garbage collector skips the records for the rest of the run: each of its passes over them would pause it.
MAX_COLLECTED_INSTANCES = 50_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """The instances of each split, in the order of the corpus. All three splits are present, some may be empty.

    `bad_rows` are the rows left out (dataset.on_bad_row=skip). Without a `video_root` there is text only.
    """

    name: str
    examples: Mapping[Split, tuple[SupportExample, ...]]
    bad_rows: tuple[BadRow, ...]
    video_root: Path | None


def read_dataset(config: DatasetConfig, seed: int, cache: Path | None) -> Dataset:
    """Read a dataset and draw `config.limit` instances of each split. Raises `DataError`, in one line, if that fails.

    A large dataset is cached in `cache`, unless that is None.
    """
    reader = READERS[config.name]
    problems = RowProblems(config.on_bad_row)
    video_root = _video_root(config, reader)
    with _garbage_collection_off():
        examples = reader.read(
            ReadRequest(dataset=config.name, root=config.root, video_pattern=config.video_pattern, problems=problems, cache=cache)
        )
    if len(examples) > MAX_COLLECTED_INSTANCES:
        gc.freeze()
    _check_ids(examples)
    if not examples:
        bad_rows = f"; {len(problems.rows)} bad rows were left out, the first: {problems.rows[0]}" if problems.rows else ""
        raise DataError(f"dataset={config.name} has no instance: no supporter turn has an earlier turn{bad_rows}")
    if video_root is not None:
        for video in history_videos(examples):
            video_path(video_root, video)  # refuses a name that leads out of the root before any training
    limits = {"train": config.limit.train, "val": config.limit.val, "test": config.limit.test}
    return Dataset(
        name=config.name,
        examples={
            split: _draw([example for example in examples if example.split == split], limits[split], f"{seed}/{split}")
            for split in SPLITS
        },
        bad_rows=problems.rows,
        video_root=video_root,
    )


def content_hash(examples: Iterable[SupportExample], video_root: Path | None) -> str:
    """64 hex digits that change with any id, text, label, note or clip, and with the size or modification time of any video."""
    digest = hashlib.sha256()
    examples = tuple(examples)
    turn_digests = _TurnDigests()
    for example in examples:
        digest.update(_line([example.id, example.split, sorted(example.notes.items()), len(example.history)]))
        digest.update(turn_digests[example.target] + b"".join([turn_digests[turn] for turn in example.history]))
    for video in history_videos(examples):
        identity = None if video_root is None else video_identity(video_path(video_root, video))
        digest.update(_line([video, identity or "missing"]))
    return digest.hexdigest()


def _video_root(config: DatasetConfig, reader: DatasetReader) -> Path | None:
    if config.video_root is None:
        return reader.shipped_videos
    video_root = Path(config.video_root)
    if not video_root.is_dir():
        raise DataError(
            f"dataset.video_root={video_root} is not a folder; write dataset.video_root=<folder with the videos>, or null"
        )
    return video_root


def _check_ids(examples: Iterable[SupportExample]) -> None:
    sources: dict[str, str] = {}
    for example in examples:
        if example.id in sources:
            raise DataError(f"instance id {example.id} is in {sources[example.id]} and in {example.source}; rename one")
        sources[example.id] = example.source


def _draw(examples: list[SupportExample], limit: int | None, seed: str) -> tuple[SupportExample, ...]:
    """`limit` of the examples, in their order. A draw with a higher limit contains the draws with lower ones."""
    if limit is None:
        return tuple(examples)
    order = list(range(len(examples)))
    random.Random(seed).shuffle(order)  # noqa: S311  not used for security
    return tuple(examples[index] for index in sorted(order[:limit]))


class _TurnDigests:
    """The sha256 of each turn, computed once although a turn is in the history of every later instance of its conversation."""

    def __init__(self) -> None:
        self._digests: dict[int, bytes] = {}

    def __getitem__(self, turn: Utterance) -> bytes:
        """By the id of the object, which the instances keep alive: hashing the text for a lookup would cost as much again."""
        digest = self._digests.get(id(turn))
        if digest is None:
            clip = turn.clip and [turn.clip.video, turn.clip.start_seconds, turn.clip.end_seconds]
            content = _line([turn.speaker, turn.text, turn.emotions, turn.strategies, clip])
            digest = self._digests[id(turn)] = hashlib.sha256(content).digest()
        return digest


@contextmanager
def _garbage_collection_off() -> Iterator[None]:
    """Records hold no cycles, and the collector's repeated passes over them would take a quarter of the reading time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _line(values: list[object]) -> bytes:
    return json.dumps(values).encode() + b"\n"
