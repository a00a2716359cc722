"""Artifacts: the output folder of a stage, keyed by a hash of everything that it depends on. A finished artifact is reused.

    <artifacts>/<stage>/<key>/depends_on.json   the inputs that the key is a hash of
                              done.json         written last: time, duration, sha256 of each file

A folder without `done.json` is unfinished: the stage runs again in it and continues from the files that it finds.
"""

from __future__ import annotations

import hashlib
import json
import logging
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
from fires_exp.storage.files import sha256_of_file, write_atomically

log = logging.getLogger("fires_exp.storage")

DONE = "done.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """A finished artifact. `reused` is True where an earlier run built it; `seconds` is how long building it took."""

    stage: str
    key: str
    folder: Path
    reused: bool
    seconds: float


def artifact_key(depends_on: Mapping[str, Any]) -> str:
    """Sixteen hex digits of the hash of everything that an artifact depends on, JSON values."""
    return hashlib.sha256(_as_text(depends_on).encode()).hexdigest()[:16]


def get_or_build(
    artifacts: Path, stage: str, depends_on: Mapping[str, Any], build: Callable[[Path], None], *, on_all_ranks: bool
) -> Artifact:
    """The artifact of a stage. Unless it is finished, `build(folder)` builds it: on all ranks, or on the main rank while the
    others wait. A collective.

    Two runs that need the same artifact at the same time build it once: the second one waits for a lock. Raises `StageError`
    where the files of a finished artifact differ from those that were written.
    """
    key = artifact_key(depends_on)
    collectives.check_same(f"what {stage} depends on", key)
    folder = artifacts / stage / key
    if not collectives.is_main():
        if collectives.broadcast(False):
            build(folder)
        return collectives.broadcast(cast(Artifact, None))
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(artifacts / stage / f"{key}.lock")
    if lock_is_taken(lock):
        log.info("%s %s is being built by another run; waiting for it", stage, key)
    with lock:
        finished = is_finished(folder)
        collectives.broadcast(on_all_ranks and not finished)
        return collectives.broadcast(
            read_artifact(folder) if finished else _build(folder, _as_text(depends_on), build, on_all_ranks=on_all_ranks)
        )


def is_finished(folder: Path) -> bool:
    """Whether the folder holds a finished artifact; its files are not checked."""
    return (folder / DONE).is_file()


def read_artifact(folder: Path) -> Artifact:
    """A finished artifact. Raises `StageError` where its files differ from those that were written."""
    seconds = _check(folder, json.loads((folder / DONE).read_text()))
    log.info("%s: reusing %s", folder.parent.name, folder)
    return Artifact(stage=folder.parent.name, key=folder.name, folder=folder, reused=True, seconds=seconds)


def lock_is_taken(lock: FileLock) -> bool:
    """Whether another process holds the lock right now."""
    try:
        with lock.acquire(timeout=0):
            return False
    except TimeoutError:
        return True


def _as_text(depends_on: Mapping[str, Any]) -> str:
    return json.dumps(depends_on, sort_keys=True, indent=2)


def _build(folder: Path, depends_on: str, build: Callable[[Path], None], *, on_all_ranks: bool) -> Artifact:
    stage = folder.parent.name
    log.info("%s: building %s", stage, folder)
    write_atomically(folder / "depends_on.json", depends_on + "\n")
    started = time.perf_counter()
    with nullcontext() if on_all_ranks else collectives.single_process():
        build(folder)
    seconds = time.perf_counter() - started
    files = {str(path.relative_to(folder)): sha256_of_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    facts = {"finished": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": round(seconds, 2), "files": files}
    write_atomically(folder / DONE, json.dumps(facts, indent=2) + "\n")
    log.info("%s: done in %.0f s", stage, seconds)
    return Artifact(stage=stage, key=folder.name, folder=folder, reused=False, seconds=seconds)


def _check(folder: Path, done: Mapping[str, Any]) -> float:
    for name, expected in done["files"].items():
        path = folder / name
        if not path.is_file() or sha256_of_file(path) != expected:
            raise StageError(f"{path} was changed or deleted after its stage had written it; delete {folder}, it is built again")
    return float(done["seconds"])
