"""A stage as a run of Weights & Biases, grouped by experiment, its steps as its x axis.

A run is written to `logs/wandb/offline-run-<time>-<id>` and never asks the network; online, a `Sender` follows that folder.
A stage that goes on is the same run: its id lies in the stage's folder, and a new folder holds all of it from the first step,
so that sending it replaces what was sent of it before. When it is written, earlier folders are marked as sent: one that a kill
cut short would stop `wandb sync` at it.
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
from fires_exp.training.loggers.panels import chart_stage
from fires_exp.training.loggers.wandb_sync import Sender

log = logging.getLogger("fires_exp.pipeline")

RUN = "wandb_run.json"


class NoWandbRunError(Exception):
    """W&B would not even begin a run; the message is its first line."""


class WandbRun(Logger):
    """Whatever goes wrong here is said once and costs the run its curves in Weights & Biases, nothing else.

    Raises `NoWandbRunError` where there is no run to begin with.
    """

    def __init__(self, config: Config, *, stage: str, stage_folder: Path, run_folder: Path, place: Path) -> None:
        super().__init__()
        os.environ.setdefault("WANDB_DATA_DIR", str(place.absolute()))  # tables wait there; the default is the user's home
        record = stage_folder / RUN
        known = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {"id": generate_id(), "folders": []}
        settings = asdict(config)
        del settings["paths"]
        self.finish_seconds = config.logger.finish_seconds
        self.words = place / "wandb.txt"
        self.broken = self.finished = False
        try:
            self.run = wandb.init(
                project=config.logger.project,
                entity=config.logger.entity,
                id=known["id"],
                group=config.name,
                job_type=chart_stage(stage),
                name=f"{config.name}-{stage}-{run_folder.name}",
                tags=[config.dataset.name, config.trained_model, config.aspects.name, config.reward.name],
                config=settings,
                dir=place,
                mode="offline",
                reinit="create_new",
                settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
            )
        except Exception as error:  # its service does not start, its folder cannot be written, a setting that it does not know
            raise NoWandbRunError(_first_line(error)) from error
        self.folder = Path(self.run.settings.sync_dir)
        self.earlier = [Path(folder) for folder in known["folders"] if folder != str(self.folder)]
        known["folders"] = [*map(str, self.earlier), str(self.folder)]
        write_atomically(record, json.dumps(known) + "\n")
        self.sender = Sender(self.folder, self.words) if config.logger.wandb_mode == "online" else None

    @property
    def name(self) -> str:
        return "wandb"

    @property
    def version(self) -> str:
        return str(self.run.id)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The run has its configuration from the start."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._try(lambda: self.run.log({name: value for name, value in metrics.items() if name != "epoch"}, step=step))
        if self.sender and self.sender.gave_up:
            self.sender.finish(0)
            self._give_up(f"its sender ended, {self.words} has its words")

    def show_table(self, name: str, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        """Rows of texts and numbers."""
        data = [list(row.values()) for row in rows]
        self._try(lambda: self.run.log({name: wandb.Table(columns=list(rows[0]), data=data, allow_mixed_types=True)}, step=step))

    def show_distribution(self, name: str, values: Sequence[float], step: int) -> None:
        self._try(lambda: self.run.log({name: wandb.Histogram(values)}, step=step))

    def finalize(self, status: str) -> None:
        """End the run; after a stage that was not stopped, give its sender time to send the rest."""
        if self.finished:
            return
        self.finished = True
        self._try(self.run.finish)
        self._mark_earlier()
        whole = status == "success"
        if self.sender and not self.sender.finish(self.finish_seconds if whole else 0) and whole:
            self._give_up(f"it did not take all of it within {self.finish_seconds:g} s, {self.words} says more")

    def _mark_earlier(self) -> None:
        """What `wandb sync` itself leaves beside a run that it sent."""
        for folder in () if self.broken else self.earlier:
            file = folder / f"run-{self.run.id}.wandb"
            if file.is_file():
                file.with_name(f"{file.name}.synced").touch()

    def _try(self, action: Callable[[], object]) -> None:
        try:
            if not self.broken:
                action()
        except Exception as error:  # whatever wandb raises: no curve is worth a run
            self.broken = True
            self._say(_first_line(error))

    def _give_up(self, problem: str) -> None:
        self.sender = None
        self._say(problem)

    def _say(self, problem: str) -> None:
        log.warning("W&B: %s; nothing else is lost, and `wandb sync %s` sends what is there", problem, self.folder)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
