"""The checkpoints of a stage: the adapter, the optimizer, the place in the data, and nothing that can be had elsewhere.

    checkpoints/step-000012.ckpt          under this name only when it is whole
    checkpoints/step-000012.ckpt.sha256   as sha256sum writes it; written before

Random numbers need no place in them: each is drawn from the seed, the step and the rank.
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
    """A stage's newest checkpoint that is as it was written; a damaged one is said and passed over."""
    for path in reversed(_checkpoints(folder)):
        expected = _hashes_of(path)
        if expected.is_file() and expected.read_text() == _hash_lines(path, path.name):
            return path
        log.warning("%s is damaged, it is not what was written; going on from the one before", path)
    return None


def checkpointed_steps(folder: Path) -> int:
    """How many steps the newest good checkpoint has behind it; 0 where there is none."""
    return checkpoint_steps(newest_checkpoint(folder))


def checkpoint_steps(checkpoint: Path | None) -> int:
    """How many steps a checkpoint has behind it, by its name; 0 of none."""
    return 0 if checkpoint is None else int(checkpoint.name.removeprefix("step-").removesuffix(_SUFFIX))


def clear_checkpoints(folder: Path) -> None:
    """Take them all out: the stage is finished."""
    shutil.rmtree(folder / _FOLDER, ignore_errors=True)


class CheckpointAndStop(Callback):
    """Saves a checkpoint every so many steps, and one more when the run is to stop; then stops it.

    A step that shows a sign of collapse is not saved, the next one that shows none is: what is kept is always good.
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
        preemption.hear_sigterm()  # Lightning's own handler broadcasts, in the midst of whatever the ranks are saying
        self.step_began = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        assert isinstance(pl_module, SteppedModule)
        self.longest_step_seconds = max(self.longest_step_seconds, time.monotonic() - self.step_began)
        self.step_began = time.monotonic()
        done = pl_module.steps_done
        reason = preemption.reason(self.longest_step_seconds) if done < self.total_steps and not pl_module.stopped_early else None
        self.due |= done % self.every_steps == 0 or reason is not None
        if self.due and not pl_module.shows_a_sign:
            self.due = False
            self._save(trainer, done)
        if reason is not None:
            raise StoppedError(f"{self.stage} stopped after step {done} of {self.total_steps} by {reason}")

    def _save(self, trainer: pl.Trainer, done: int) -> None:
        path = self.folder / _FOLDER / f"step-{done:06d}{_SUFFIX}"
        temporary = path.with_name(f".{path.name}")
        if collectives.is_first():
            path.parent.mkdir(exist_ok=True)
            _remove(temporary)
        collectives.meet()
        try:
            trainer.save_checkpoint(temporary)  # all ranks meet there
            if collectives.is_first():
                _sync(temporary)
                write_atomically(_hashes_of(path), _hash_lines(temporary, path.name))
                _remove(path)
                temporary.replace(path)
                _prune(self.folder, self.keep)
        finally:
            if collectives.is_first():
                _remove(temporary)  # half of it, where the disk is full


def _checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / _FOLDER).glob(f"step-*{_SUFFIX}"), key=checkpoint_steps)


def _hashes_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _files(path: Path) -> list[Path]:
    """A checkpoint is a file, or a folder where each rank writes a part."""
    return sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]


def _hash_lines(path: Path, name: str) -> str:
    lines = []
    for file in _files(path):
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        lines.append(f"{digest}  {name if file == path else f'{name}/{file.relative_to(path)}'}\n")
    return "".join(lines)


def _sync(path: Path) -> None:
    """What a power cut after the renaming must not take away."""
    for file in _files(path):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())


def _prune(folder: Path, keep: int) -> None:
    kept = {path.name for path in _checkpoints(folder)[-keep:]}
    for path in (folder / _FOLDER).iterdir():
        if path.name.removesuffix(".sha256") not in kept:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
