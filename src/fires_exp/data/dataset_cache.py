"""A cache of large datasets, so that later runs neither parse nor check their tables again.

One file per entry. Its name is a hash of everything that the conversations depend on: the content of every table, the settings
and the code of this folder. Its first line is the sha256 of the rest, which has one conversation per line. Datasets with bad
rows are not cached. The cache may be deleted, and several processes may share it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fires_exp.data.readers.row_errors import RowProblems
from fires_exp.data.records import Clip, Conversation, Utterance
from fires_exp.storage.files import atomic_path, sha256_of_file

FOLDER = "datasets"
MIN_CACHED_BYTES = 20_000_000  # smaller tables are parsed in a second or two

_LOGGER = logging.getLogger("fires_exp.data")


def cached_or_read(
    cache: Path | None,
    settings: Sequence[str],
    tables: Sequence[Path],
    problems: RowProblems,
    read: Callable[[], tuple[Conversation, ...]],
) -> tuple[Conversation, ...]:
    """The conversations of these tables: from the cache, or from `read`, which also raises the errors of the tables.

    The cache is only used for large tables, and not if it is None.
    """
    key = None if cache is None else _key(settings, tables)
    if cache is None or key is None:
        return read()
    entry = cache / FOLDER / f"{key}.jsonl"
    conversations = _read_entry(entry)
    if conversations is None:
        conversations = read()
        if not problems.rows and key == _key(settings, tables):  # the tables may have changed during the reading
            _write_entry(entry, conversations)
    return conversations


def _key(settings: Sequence[str], tables: Sequence[Path]) -> str | None:
    """None if the tables are small or cannot be read."""
    try:
        if sum(table.stat().st_size for table in tables) < MIN_CACHED_BYTES:
            return None
        code = [sha256_of_file(path) for path in sorted(Path(__file__).parent.rglob("*.py"))]
        facts = [platform.python_version(), code, list(settings), [[table.name, sha256_of_file(table)] for table in tables]]
    except OSError:
        return None
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _read_entry(entry: Path) -> tuple[Conversation, ...] | None:
    """None if the entry is missing or damaged."""
    try:
        with entry.open("rb") as file:
            expected = file.readline().strip().decode("ascii")
            first_conversation = file.tell()
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                return None
            file.seek(first_conversation)
            labels: dict[tuple[str, ...], tuple[str, ...]] = {}
            return tuple(_conversation(json.loads(line), labels) for line in file)
    except (OSError, ValueError):
        return None


def _write_entry(entry: Path, conversations: Sequence[Conversation]) -> None:
    """Write or replace an entry. A failed write is only a warning: the next run parses the tables again."""
    digest = hashlib.sha256()
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(entry) as temporary, temporary.open("wb") as file:
            file.write(b"-" * len(digest.hexdigest()) + b"\n")
            for conversation in conversations:
                line = json.dumps(_fields(conversation)).encode() + b"\n"
                digest.update(line)
                file.write(line)
            file.seek(0)
            file.write(digest.hexdigest().encode())
    except OSError as error:
        _LOGGER.warning("cannot cache the dataset in %s (%s); the next run parses its tables again", entry.parent, error.strerror)


def _fields(conversation: Conversation) -> list[Any]:
    turns = []
    for turn in conversation.turns:
        clip = [turn.clip.video, turn.clip.start_seconds, turn.clip.end_seconds] if turn.clip else None
        turns.append([turn.speaker, turn.text, turn.emotions, turn.strategies, clip])
    notes = [[index, dict(aspects)] for index, aspects in conversation.notes.items()]
    return [conversation.id, conversation.split, conversation.source, notes, turns]


def _conversation(fields: list[Any], labels: dict[tuple[str, ...], tuple[str, ...]]) -> Conversation:
    """The inverse of `_fields`. `labels` saves memory: turns with equal labels share one tuple."""
    identifier, split, source, notes, turns = fields
    return Conversation(
        id=identifier,
        split=sys.intern(split),  # type: ignore[arg-type]
        source=source,
        notes=dict(notes),
        turns=tuple(
            [
                Utterance(
                    speaker=sys.intern(speaker),  # type: ignore[arg-type]
                    text=text,
                    emotions=labels.setdefault(emotion_labels := tuple(emotions), emotion_labels),
                    strategies=labels.setdefault(strategy_labels := tuple(strategies), strategy_labels),
                    clip=clip and Clip(video=sys.intern(clip[0]), start_seconds=clip[1], end_seconds=clip[2]),
                )
                for speaker, text, emotions, strategies, clip in turns
            ]
        ),
    )
