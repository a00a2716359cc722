"""From a dataset's configuration to its instances."""

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
from fires_exp.data.dataset_cache import kept_or_read
from fires_exp.data.readers.emotyda import read_emotyda_esc
from fires_exp.data.readers.jsonl import jsonl_files, read_jsonl
from fires_exp.data.readers.mesc import mesc_files, read_mesc
from fires_exp.data.readers.row_errors import BadRow, RowProblems
from fires_exp.data.readers.sample import SAMPLE_VIDEO_ROOT, read_sample
from fires_exp.data.records import SPLITS, Split, SupportExample, Utterance, support_examples
from fires_exp.data.video.paths import video_identity, video_path, videos_shown
from fires_exp.errors import DataError

# from here on the garbage collector leaves alone what was read: each time it walks over all of it, a run would stand still
MANY_INSTANCES = 50_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """The instances of each split, in the order of the corpus. All three splits are there, some may be empty.

    `bad_rows` are the rows left out (dataset.on_bad_row=skip). Without a `video_root` there is text only.
    """

    name: str
    examples: Mapping[Split, tuple[SupportExample, ...]]
    bad_rows: tuple[BadRow, ...]
    video_root: Path | None


def read_dataset(config: DatasetConfig, seed: int, cache: Path | None) -> Dataset:
    """Read a dataset and draw `config.limit` instances of each split. `DataError` says in one line what is wrong with it.

    A large one is kept in `cache` as it was read, unless that is None.
    """
    problems = RowProblems(config.on_bad_row)
    video_root = _video_root(config)
    with _without_collector():
        examples = _read_examples(config, problems, cache)
    if len(examples) > MANY_INSTANCES:
        gc.freeze()
    _check_ids(examples)
    if not examples:
        left_out = f"; {len(problems.rows)} rows were left out, the first: {problems.rows[0]}" if problems.rows else ""
        raise DataError(f"dataset={config.name} has no instance: no supporter turn has an earlier turn{left_out}")
    if video_root is not None:
        for video in videos_shown(examples):
            video_path(video_root, video)  # refuses a name that leads out, before anything is trained
    limits = {"train": config.limit.train, "val": config.limit.val, "test": config.limit.test}
    return Dataset(
        name=config.name,
        examples={
            split: _drawn([example for example in examples if example.split == split], limits[split], f"{seed}/{split}")
            for split in SPLITS
        },
        bad_rows=problems.rows,
        video_root=video_root,
    )


def content_hash(examples: Iterable[SupportExample], video_root: Path | None) -> str:
    """64 hex digits that change with any id, text, label, note or clip, and with any video's size or time of change."""
    digest = hashlib.sha256()
    examples = tuple(examples)
    of_turn = _TurnDigests()
    for example in examples:
        digest.update(_line([example.id, example.split, sorted(example.notes.items()), len(example.history)]))
        digest.update(of_turn[example.target] + b"".join([of_turn[turn] for turn in example.history]))
    for video in videos_shown(examples):
        identity = None if video_root is None else video_identity(video_path(video_root, video))
        digest.update(_line([video, identity or "missing"]))
    return digest.hexdigest()


def _video_root(config: DatasetConfig) -> Path | None:
    if config.video_root is None:
        return SAMPLE_VIDEO_ROOT if config.name == "sample" else None
    video_root = Path(config.video_root)
    if not video_root.is_dir():
        raise DataError(f"no such folder {video_root}; write dataset.video_root=<folder with the videos>, or null for text only")
    return video_root


def _read_examples(config: DatasetConfig, problems: RowProblems, cache: Path | None) -> tuple[SupportExample, ...]:
    if config.name == "sample":
        if config.root is not None:
            raise DataError(f"dataset.root={config.root}: the sample has its own; dataset=mesc reads the same layout elsewhere")
        conversations = read_sample(video_pattern=config.video_pattern, problems=problems)
    elif config.name == "jsonl":
        root = _root(config)
        conversations = kept_or_read(cache, ["jsonl"], jsonl_files(root), problems, lambda: read_jsonl(root, problems=problems))
    elif config.name == "mesc":
        root, pattern = _root(config), config.video_pattern
        conversations = kept_or_read(
            cache,
            ["mesc", pattern],
            mesc_files(root),
            problems,
            lambda: read_mesc(root, corpus="mesc", video_pattern=pattern, problems=problems),
        )
    else:
        return read_emotyda_esc(_root(config), video_pattern=config.video_pattern, problems=problems)
    return tuple(example for conversation in conversations for example in support_examples(conversation))


def _root(config: DatasetConfig) -> Path:
    root = Path(config.root or "")
    if root.is_dir() or (config.name == "jsonl" and root.is_file()):
        return root
    kind = "file or folder" if config.name == "jsonl" else "folder"
    raise DataError(f"no such {kind} {config.root}; write dataset.root=<{kind} of the {config.name} data>")


def _check_ids(examples: Iterable[SupportExample]) -> None:
    sources: dict[str, str] = {}
    for example in examples:
        if example.id in sources:
            raise DataError(f"instance id {example.id} stands in {sources[example.id]} and in {example.source}; rename one")
        sources[example.id] = example.source


def _drawn(examples: list[SupportExample], limit: int | None, seed: str) -> tuple[SupportExample, ...]:
    """Every split has its own seed, and a larger draw contains the smaller ones."""
    if limit is None:
        return tuple(examples)
    order = list(range(len(examples)))
    random.Random(seed).shuffle(order)  # noqa: S311  a draw, not a secret
    return tuple(examples[index] for index in sorted(order[:limit]))


class _TurnDigests:
    """sha256 of a turn, computed once although it stands in the history of every later instance of its conversation."""

    def __init__(self) -> None:
        self._known: dict[int, bytes] = {}

    def __getitem__(self, turn: Utterance) -> bytes:
        """Known by the object, which the instances keep alive: comparing its texts would cost as much as hashing them."""
        digest = self._known.get(id(turn))
        if digest is None:
            clip = turn.clip and [turn.clip.video, turn.clip.start_seconds, turn.clip.end_seconds]
            facts = _line([turn.speaker, turn.text, turn.emotions, turn.strategies, clip])
            digest = self._known[id(turn)] = hashlib.sha256(facts).digest()
        return digest


@contextmanager
def _without_collector() -> Iterator[None]:
    """Records hold no cycles, and walking over all of them again and again takes a fourth of the time of reading them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _line(facts: list[object]) -> bytes:
    return json.dumps(facts).encode() + b"\n"
