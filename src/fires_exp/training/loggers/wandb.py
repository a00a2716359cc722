"""Weights & Biases logger of a stage: one run per stage, grouped by experiment, with the stage's steps as x axis.

A run is written to `logs/wandb/offline-run-<time>-<id>` without network access; online, a `SyncProcess` uploads that folder.
A resumed stage is the same run: its id is stored in the stage's folder, and a new run folder contains all steps from the first,
so that uploading it replaces what was uploaded before. When it is finished, the earlier folders are marked as uploaded, because
`wandb sync` stops at a folder that was truncated by a kill.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import wandb
from pytorch_lightning.loggers import Logger
from wandb.sdk.lib.runid import generate_id

from fires_exp.config.root import Config
from fires_exp.storage.files import write_atomically
from fires_exp.training.loggers.panels import stage_type
from fires_exp.training.loggers.wandb_sync import SyncProcess

log = logging.getLogger("fires_exp.pipeline")

RUN_RECORD = "wandb_run.json"


class WandbStartError(Exception):
    """W&B did not start a run. The message is the first line of the cause."""


class StageWandbLogger(Logger):
    """An error of W&B is logged once, and nothing is logged to it from then on; it never stops the run.

    Raises `WandbStartError` if W&B cannot start a run.
    """

    def __init__(self, config: Config, *, stage: str, stage_folder: Path, run_folder: Path, logs_folder: Path) -> None:
        super().__init__()
        # W&B buffers tables there; the default is the user's home
        os.environ.setdefault("WANDB_DATA_DIR", str(logs_folder.absolute()))
        record_file = stage_folder / RUN_RECORD
        record: dict[str, Any] = (
            json.loads(record_file.read_text(encoding="utf-8")) if record_file.is_file() else {"id": generate_id(), "folders": []}
        )
        settings = asdict(config)
        del settings["paths"]
        self.finish_seconds = config.logger.finish_seconds
        self.sync_log = logs_folder / "wandb.txt"
        self.broken = self.finished = False
        try:
            self.run = wandb.init(
                project=config.logger.project,
                entity=config.logger.entity,
                id=record["id"],
                group=config.name,
                job_type=stage_type(stage),
                name=f"{config.name}-{stage}-{run_folder.name}",
                tags=[config.dataset.name, config.trained_model, config.aspects.name, config.reward.name],
                config=settings,
                dir=logs_folder,
                mode="offline",
                reinit="create_new",
                settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
            )
        except Exception as error:  # e.g. its service does not start, its folder is not writable, an unknown setting
            raise WandbStartError(_first_line(error)) from error
        self.folder = Path(self.run.settings.sync_dir)
        self.earlier_folders = [Path(folder) for folder in record["folders"] if folder != str(self.folder)]
        record["folders"] = [*map(str, self.earlier_folders), str(self.folder)]
        write_atomically(record_file, json.dumps(record) + "\n")
        self.sync_process = SyncProcess(self.folder, self.sync_log) if config.logger.wandb_mode == "online" else None

    @property
    def name(self) -> str:
        return "wandb"

    @property
    def version(self) -> str:
        return str(self.run.id)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The configuration was set when the run was started."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._try(lambda: self.run.log({name: value for name, value in metrics.items() if name != "epoch"}, step=step))
        if self.sync_process and self.sync_process.has_ended:
            self.sync_process.finish(0)
            self._stop_uploading(f"the upload process ended, its output is in {self.sync_log}")

    def show_table(self, name: str, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        """Log rows of texts and numbers as a table."""
        data = [list(row.values()) for row in rows]
        self._try(lambda: self.run.log({name: wandb.Table(columns=list(rows[0]), data=data, allow_mixed_types=True)}, step=step))

    def show_distribution(self, name: str, values: Sequence[float], step: int) -> None:
        self._try(lambda: self.run.log({name: wandb.Histogram(values)}, step=step))

    def finalize(self, status: str) -> None:
        """Finish the run. After a stage that was not stopped, wait up to `finish_seconds` for the upload of the rest."""
        if self.finished:
            return
        self.finished = True
        self._try(self.run.finish)
        self._mark_earlier_folders()
        is_complete = status == "success"
        timeout = self.finish_seconds if is_complete else 0
        if self.sync_process and not self.sync_process.finish(timeout) and is_complete:
            self._stop_uploading(f"the upload did not finish within {self.finish_seconds:g} s, its output is in {self.sync_log}")

    def _mark_earlier_folders(self) -> None:
        """Write the marker that `wandb sync` writes beside an uploaded run."""
        for folder in () if self.broken else self.earlier_folders:
            file = folder / f"run-{self.run.id}.wandb"
            if file.is_file():
                file.with_name(f"{file.name}.synced").touch()

    def _try(self, action: Callable[[], object]) -> None:
        try:
            if not self.broken:
                action()
        except Exception as error:  # wandb may raise anything, and logging must not stop a run
            self.broken = True
            self._warn(_first_line(error))

    def _stop_uploading(self, problem: str) -> None:
        self.sync_process = None
        self._warn(problem)

    def _warn(self, problem: str) -> None:
        log.warning("W&B: %s; the run continues, and `wandb sync %s` uploads what was logged", problem, self.folder)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
