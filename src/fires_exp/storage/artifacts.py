"""What a stage leaves behind: a folder keyed by everything that it depends on. A folder that is there is reused.

    <artifacts>/<stage>/<key>/depends_on.json   what went into the key
                              done.json         written last: when, how long, sha256 of each file

A folder without `done.json` is unfinished: the stage is run again in it and goes on from what it finds there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from filelock import FileLock

from fires_exp.distributed import collectives
from fires_exp.errors import StageError

log = logging.getLogger("fires_exp.pipeline")

DONE = "done.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """A finished stage. `reused` is True where it was there already; `seconds` is what making it took."""

    stage: str
    key: str
    folder: Path
    reused: bool
    seconds: float


def make(
    artifacts: Path, stage: str, depends_on: Mapping[str, Any], build: Callable[[Path], None], *, together: bool
) -> Artifact:
    """The artifact of a stage, built by `build(folder)` unless it is there: of several ranks by all `together`, else by the first
    while the others wait.

    Two runs that want the same artifact at the same time build it once: the second waits. Raises `StageError` where a finished
    folder's files are not what was written.
    """
    text, key = _text_and_key(depends_on)
    collectives.check_same(f"what {stage} depends on", key)
    folder = artifacts / stage / key
    if not collectives.is_first():
        if collectives.from_first(False):
            build(folder)
        return collectives.from_first(cast(Artifact, None))
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(artifacts / stage / f"{key}.lock")
    if lock_is_taken(lock):
        log.info("%s %s is being made by another run; waiting for it", stage, key)
    with lock:
        ready = (folder / DONE).is_file()
        collectives.from_first(together and not ready)
        return collectives.from_first(reuse(folder) if ready else _build(folder, text, build, together=together))


def look(artifacts: Path, stage: str, depends_on: Mapping[str, Any]) -> Artifact:
    """The artifact as it is now, `reused` where it is finished; nothing is made or written, its files are not checked."""
    _, key = _text_and_key(depends_on)
    folder = artifacts / stage / key
    return Artifact(stage=stage, key=key, folder=folder, reused=(folder / DONE).is_file(), seconds=0.0)


def _text_and_key(depends_on: Mapping[str, Any]) -> tuple[str, str]:
    text = json.dumps(depends_on, sort_keys=True, indent=2)
    return text, hashlib.sha256(text.encode()).hexdigest()[:16]


def reuse(folder: Path) -> Artifact:
    """A finished artifact. Raises `StageError` where its files are not what was written."""
    seconds = _check(folder, json.loads((folder / DONE).read_text()))
    log.info("%s: reusing %s", folder.parent.name, folder)
    return Artifact(stage=folder.parent.name, key=folder.name, folder=folder, reused=True, seconds=seconds)


def _build(folder: Path, depends_on: str, build: Callable[[Path], None], *, together: bool) -> Artifact:
    stage = folder.parent.name
    log.info("%s: making %s", stage, folder)
    write_atomically(folder / "depends_on.json", depends_on + "\n")
    started = time.perf_counter()
    with nullcontext() if together else collectives.alone():
        build(folder)
    seconds = time.perf_counter() - started
    files = {str(path.relative_to(folder)): _sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    facts = {"finished": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": round(seconds, 2), "files": files}
    write_atomically(folder / DONE, json.dumps(facts, indent=2) + "\n")
    log.info("%s: done in %.0f s", stage, seconds)
    return Artifact(stage=stage, key=folder.name, folder=folder, reused=False, seconds=seconds)


def lock_is_taken(lock: FileLock) -> bool:
    """Whether another process holds the lock right now."""
    try:
        with lock.acquire(timeout=0):
            return False
    except TimeoutError:
        return True


def write_atomically(path: Path, text: str) -> None:
    """A reader sees the old file or the new one, never half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # half of it, where the disk is full


def whole_lines(path: Path) -> list[str]:
    """The lines that end as lines do: half a line, which a kill or a full disk leaves at the end, is none. None of no file."""
    content = path.read_bytes() if path.is_file() else b""
    return content.rpartition(b"\n")[0].decode("utf-8").split("\n") if b"\n" in content else []


def _check(folder: Path, done: Mapping[str, Any]) -> float:
    for name, expected in done["files"].items():
        path = folder / name
        if not path.is_file() or _sha256(path) != expected:
            raise StageError(f"{path} was changed or deleted after the stage had written it; delete {folder}, it is made again")
    return float(done["seconds"])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
