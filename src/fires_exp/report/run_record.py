"""`run.json`: what ran, on what, how long, with what memory."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import torch

from fires_exp.config.root import Config
from fires_exp.config.secrets import without_secrets

PACKAGES = ("fires-exp", "torch", "transformers", "peft", "pytorch-lightning", "hydra-core", "tokenizers", "numpy", "decord")


class StageRun(Protocol):
    """What is told of a stage; `stages.artifact.Artifact` is one."""

    @property
    def stage(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def folder(self) -> Path: ...
    @property
    def reused(self) -> bool: ...
    @property
    def seconds(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A run that has started; `finish` writes the rest."""

    run_folder: Path
    facts: dict[str, Any]
    started_at: float

    @classmethod
    def start(cls, run_folder: Path, config: Config) -> RunRecord:
        facts = {
            "name": config.name,
            "status": "running",
            "started": _now(),
            "seed": config.seed,
            "config_sha256": hashlib.sha256(json.dumps(asdict(config), sort_keys=True).encode()).hexdigest(),
            "commit": git_commit(),
            "python": platform.python_version(),
            "machine": f"{platform.machine()}, {torch.get_num_threads()} threads"
            + (f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""),
            "versions": {name: _version(name) for name in PACKAGES},
        }
        record = cls(run_folder=run_folder, facts=facts, started_at=time.perf_counter())
        record._write(facts)
        return record

    def note(self, name: str, fact: Any) -> None:
        """Write down something that is known before the run ends."""
        self.facts[name] = fact
        self._write(self.facts)

    def finish(self, stages: Sequence[StageRun], status: str) -> None:
        """Write timings, memory and how it ended; a stage's `seconds` is what making it took, whoever made it."""
        self._write(
            self.facts
            | {
                "status": without_secrets(status),
                "finished": _now(),
                "seconds": round(time.perf_counter() - self.started_at, 1),
                "peak_memory_bytes": peak_memory_bytes(),
                "peak_gpu_memory_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None,
                "stages": [
                    {
                        "stage": stage.stage,
                        "key": stage.key,
                        "folder": str(stage.folder),
                        "reused": stage.reused,
                        "seconds": round(stage.seconds, 1),
                    }
                    for stage in stages
                ],
            }
        )

    def _write(self, facts: dict[str, Any]) -> None:
        path = self.run_folder / "run.json"
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
            temporary.replace(path)  # where the disk is full, the record of the start stays
        finally:
            temporary.unlink(missing_ok=True)


def peak_memory_bytes() -> int:
    """The most resident memory that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def git_commit() -> str | None:
    """The commit of the checkout that this package lies in, with `+changes` where it was edited; None outside a checkout."""
    folder = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)  # noqa: S607
        # without its lock, which would stop the user's own git for a moment, and for good where the disk is full
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
