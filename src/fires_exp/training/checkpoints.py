"""Checkpoints of a stage: trainable parameters, optimizer state and position in the data.

    checkpoints/step-000012.ckpt          gets this name when it is complete
    checkpoints/step-000012.ckpt.sha256   in the format of sha256sum; written first

No state of random generators is saved, because every random stream is derived from the seed, the step and the rank.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from fires_exp.distributed import collectives
from fires_exp.errors import StoppedError
from fires_exp.storage.files import write_atomically
from fires_exp.training import preemption
from fires_exp.training.stepped_module import SteppedModule

log = logging.getLogger("fires_exp.pipeline")

_FOLDER = "checkpoints"
_SUFFIX = ".ckpt"


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint whose hash matches, or None. Damaged ones are skipped with a warning."""
    for path in reversed(_checkpoints(folder)):
        expected = _hash_file(path)
        if expected.is_file() and expected.read_text() == _hash_lines(path, path.name):
            return path
        log.warning("%s is damaged: its contents do not match its hash; using the checkpoint before it", path)
    return None


def checkpointed_steps(folder: Path) -> int:
    """Steps done in the newest undamaged checkpoint; 0 without a checkpoint."""
    return checkpoint_steps(newest_checkpoint(folder))


def checkpoint_steps(checkpoint: Path | None) -> int:
    """Steps done in a checkpoint, read from its name; 0 for None."""
    return 0 if checkpoint is None else int(checkpoint.name.removeprefix("step-").removesuffix(_SUFFIX))


def clear_checkpoints(folder: Path) -> None:
    """Delete all checkpoints of a finished stage."""
    shutil.rmtree(folder / _FOLDER, ignore_errors=True)


class CheckpointAndStop(Callback):
    """Saves a checkpoint every `every_steps` steps and before the run is preempted, then raises `StoppedError`.

    A step with a sign of collapse is not saved; the next one without a sign is. So no kept checkpoint is collapsed.
    """

    def __init__(self, folder: Path, *, stage: str, every_steps: int, keep: int, total_steps: int) -> None:
        self.folder = folder
        self.stage = stage
        self.every_steps = every_steps
        self.keep = keep
        self.total_steps = total_steps
        self.due = False
        self.step_began = 0.0
        self.longest_step_seconds = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        preemption.handle_sigterm()  # Lightning's own handler broadcasts, possibly while another collective is in flight
        self.step_began = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        assert isinstance(pl_module, SteppedModule)
        self.longest_step_seconds = max(self.longest_step_seconds, time.monotonic() - self.step_began)
        self.step_began = time.monotonic()
        done = pl_module.steps_done
        is_last = done >= self.total_steps or pl_module.stopped_early
        reason = None if is_last else preemption.stop_reason(self.longest_step_seconds)
        self.due |= done % self.every_steps == 0 or reason is not None
        if self.due and not pl_module.has_collapse_sign:
            self.due = False
            self._save(trainer, done)
        if reason is not None:
            raise StoppedError(f"{self.stage} stopped after step {done} of {self.total_steps} by {reason}")

    def _save(self, trainer: pl.Trainer, done: int) -> None:
        path = self.folder / _FOLDER / f"step-{done:06d}{_SUFFIX}"
        temporary = path.with_name(f".{path.name}")
        if collectives.is_main():
            path.parent.mkdir(exist_ok=True)
            _remove(temporary)
        collectives.barrier()
        try:
            trainer.save_checkpoint(temporary)  # a collective
            if collectives.is_main():
                _sync(temporary)
                write_atomically(_hash_file(path), _hash_lines(temporary, path.name))
                _remove(path)
                temporary.replace(path)
                _prune(self.folder, self.keep)
        finally:
            if collectives.is_main():
                _remove(temporary)  # incomplete if the disk is full


def _checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / _FOLDER).glob(f"step-*{_SUFFIX}"), key=checkpoint_steps)


def _hash_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _files(path: Path) -> list[Path]:
    """The files of a checkpoint, which is one file, or a folder to which each rank writes its own."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _hash_lines(path: Path, name: str) -> str:
    lines = []
    for file in _files(path):
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        lines.append(f"{digest}  {name if file == path else f'{name}/{file.relative_to(path)}'}\n")
    return "".join(lines)


def _sync(path: Path) -> None:
    """Flush the checkpoint to disk, so that a power failure after the renaming does not lose it."""
    for file in _files(path):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())


def _prune(folder: Path, keep: int) -> None:
    kept_names = {path.name for path in _checkpoints(folder)[-keep:]}
    for path in (folder / _FOLDER).iterdir():
        if path.name.removesuffix(".sha256") not in kept_names:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
