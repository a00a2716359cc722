"""`run.json`: what a run computes, on which code and machine, and how far it is. Rewritten after every change of a stage."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch

from fires_exp.config.root import Config
from fires_exp.config.secrets import without_secrets
from fires_exp.storage.files import write_atomically

RUN_RECORD = "run.json"
RUNNING, FINISHED = "running", "finished"  # of `status`; every other status is the error that ended the run
PACKAGES = ("fires-exp", "torch", "transformers", "peft", "pytorch-lightning", "hydra-core", "tokenizers", "numpy", "decord")


class StageState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    REUSED = "reused"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class StageProgress:
    """A planned stage and how far it is.

    `stage` is the folder name of its artifacts, `label` its name for readers, `seconds` how long computing the artifact took,
    in this run or in the earlier one that it is reused from; None while it is not known. `key` and `folder` are None until
    the stage's inputs are known.

    >>> StageProgress(stage="predictions", label="predictions of grpo").state
    <StageState.WAITING: 'waiting'>
    """

    stage: str
    label: str
    key: str | None = None
    folder: Path | None = None
    state: StageState = StageState.WAITING
    started: str | None = None
    seconds: float | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "label": self.label,
            "key": self.key,
            "folder": None if self.folder is None else str(self.folder),
            "state": self.state.value,
            "reused": self.state is StageState.REUSED,
            "started": self.started,
            "seconds": None if self.seconds is None else round(self.seconds, 1),
        }


class RunRecord:
    """The record of a run under way. Every method rewrites `run.json` as a whole, so a reader never sees half of it; where the
    disk is full, an `OSError` leaves the last record in place."""

    def __init__(self, run_folder: Path, facts: dict[str, Any], stages: Sequence[StageProgress]) -> None:
        self.run_folder = run_folder
        self._facts = facts
        self._stages = list(stages)
        self._started_at = time.perf_counter()

    @classmethod
    def start(cls, run_folder: Path, config: Config, stages: Sequence[StageProgress] = ()) -> RunRecord:
        """Begin the record with all planned stages, in the order in which they run."""
        facts = {
            "name": config.name,
            "status": RUNNING,
            "started": _now(),
            "updated": _now(),
            "seed": config.seed,
            "config_sha256": hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode()).hexdigest(),
            "commit": git_commit(),
            "python": platform.python_version(),
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads"
            + (f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""),
            "versions": {name: _version(name) for name in PACKAGES},
        }
        record = cls(run_folder, facts, stages)
        record._write()
        return record

    @property
    def stages(self) -> tuple[StageProgress, ...]:
        return tuple(self._stages)

    def plan(self, stages: Sequence[StageProgress]) -> None:
        """Replace the planned stages, where the plan is known only after the start."""
        self._stages = list(stages)
        self._write()

    def update_stage(
        self,
        index: int,
        state: StageState,
        *,
        seconds: float | None = None,
        key: str | None = None,
        folder: Path | None = None,
    ) -> None:
        """Change the state of the planned stage at `index`; None leaves `seconds`, `key` or `folder` as it is."""
        stage = self._stages[index]
        self._stages[index] = replace(
            stage,
            state=StageState(state),
            started=_now() if state == StageState.RUNNING else stage.started,
            seconds=stage.seconds if seconds is None else seconds,
            key=stage.key if key is None else key,
            folder=stage.folder if folder is None else folder,
        )
        self._write()

    def note(self, name: str, fact: Any) -> None:
        """Add a fact of the run, such as its estimate, under a key of its own."""
        self._facts[name] = fact
        self._write()

    def finish(self, status: str = FINISHED) -> None:
        """Add the duration and the peak memory. With an error as `status`, a stage under way has failed."""
        self._facts |= {
            "status": without_secrets(status),
            "finished": _now(),
            "seconds": round(time.perf_counter() - self._started_at, 1),
            "peak_memory_bytes": peak_memory_bytes(),
            "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
        }
        if status != FINISHED:
            self._stages = [
                replace(stage, state=StageState.FAILED) if stage.state is StageState.RUNNING else stage for stage in self._stages
            ]
        self._write()

    def _write(self) -> None:
        self._facts["updated"] = _now()
        record = self._facts | {"stages": [stage.as_json() for stage in self._stages]}
        write_atomically(self.run_folder / RUN_RECORD, json.dumps(record, indent=2) + "\n")


def peak_memory_bytes() -> int:
    """The highest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def git_commit() -> str | None:
    """The commit of the checkout that contains this package, with `+changes` where files differ from it; None outside a
    checkout."""
    folder = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)  # noqa: S607
        # git's optional lock would block a command that the user runs at the same time, for good where the disk is full
        status = ["git", "--no-optional-locks", "status", "--porcelain"]
        changes = subprocess.run(status, cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+changes" if changes.stdout.strip() else "")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
