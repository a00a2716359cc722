"""Large datasets on disk as they were read: a later start neither reads nor checks their tables again.

One file an entry, named after all that decides what is read: the hash of every table, the settings and this folder's code. Its
first line is the sha256 of the rest, a conversation a line. Only what had no bad row is kept. Safe to delete, and safe to share.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import sys
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fires_exp.data.readers.row_errors import RowProblems
from fires_exp.data.records import Clip, Conversation, Utterance

FOLDER = "datasets"
WORTH_KEEPING_BYTES = 20_000_000  # smaller tables are read in a second or two

_LOGGER = logging.getLogger("fires_exp.data")


def kept_or_read(
    cache: Path | None,
    settings: Sequence[str],
    tables: Sequence[Path],
    problems: RowProblems,
    read: Callable[[], tuple[Conversation, ...]],
) -> tuple[Conversation, ...]:
    """The conversations of these tables, by `read`, which raises what is wrong with them, or as they lie in the cache.

    The cache is used where the tables are large and it is not None.
    """
    key = None if cache is None else _key(settings, tables)
    if cache is None or key is None:
        return read()
    entry = cache / FOLDER / f"{key}.jsonl"
    conversations = _kept(entry)
    if conversations is None:
        conversations = read()
        if not problems.rows and key == _key(settings, tables):  # the tables may have changed while they were read
            _keep(entry, conversations)
    return conversations


def _key(settings: Sequence[str], tables: Sequence[Path]) -> str | None:
    """None where the tables are small, or cannot be read."""
    try:
        if sum(table.stat().st_size for table in tables) < WORTH_KEEPING_BYTES:
            return None
        code = [_sha256(path) for path in sorted(Path(__file__).parent.rglob("*.py"))]
        facts = [platform.python_version(), code, list(settings), [[table.name, _sha256(table)] for table in tables]]
    except OSError:
        return None
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _kept(entry: Path) -> tuple[Conversation, ...] | None:
    """None where there is no entry, or where it is not whole."""
    try:
        with entry.open("rb") as file:
            expected = file.readline().strip().decode("ascii")
            begin = file.tell()
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                return None
            file.seek(begin)
            shared: dict[tuple[str, ...], tuple[str, ...]] = {}
            return tuple(_conversation(json.loads(line), shared) for line in file)
    except (OSError, ValueError):
        return None


def _keep(entry: Path, conversations: Sequence[Conversation]) -> None:
    """Put them in place of what is there. A disk that refuses costs the next start its time, and this one nothing."""
    unfinished = entry.with_name(f"{entry.name}.{uuid.uuid4().hex}")
    digest = hashlib.sha256()
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            file.write(b"-" * len(digest.hexdigest()) + b"\n")
            for conversation in conversations:
                line = json.dumps(_fields(conversation)).encode() + b"\n"
                digest.update(line)
                file.write(line)
            file.seek(0)
            file.write(digest.hexdigest().encode())
        os.replace(unfinished, entry)
    except OSError as error:
        _LOGGER.warning("cannot keep the dataset in %s (%s); the next start reads its tables again", entry.parent, error.strerror)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _fields(conversation: Conversation) -> list[Any]:
    turns = []
    for turn in conversation.turns:
        clip = [turn.clip.video, turn.clip.start_seconds, turn.clip.end_seconds] if turn.clip else None
        turns.append([turn.speaker, turn.text, turn.emotions, turn.strategies, clip])
    notes = [[index, dict(aspects)] for index, aspects in conversation.notes.items()]
    return [conversation.id, conversation.split, conversation.source, notes, turns]


def _conversation(fields: list[Any], shared: dict[tuple[str, ...], tuple[str, ...]]) -> Conversation:
    """`shared` holds each list of labels once: a corpus has few, and names some with every turn."""
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
                    emotions=shared.setdefault(one := tuple(emotions), one),
                    strategies=shared.setdefault(other := tuple(strategies), other),
                    clip=clip and Clip(video=sys.intern(clip[0]), start_seconds=clip[1], end_seconds=clip[2]),
                )
                for speaker, text, emotions, strategies, clip in turns
            ]
        ),
    )
