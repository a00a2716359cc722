"""The configured logger, told of the steps that were done before it was made."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pytorch_lightning.loggers import CSVLogger, Logger

from fires_exp.config.root import Config
from fires_exp.config.training import LoggerConfig
from fires_exp.errors import ConfigError
from fires_exp.storage.files import complete_lines
from fires_exp.training.loggers import completions_table
from fires_exp.training.loggers.panels import COMPLETIONS

log = logging.getLogger("fires_exp.pipeline")

Rows = Sequence[Mapping[str, Any]]

LOGS = "logs"


@runtime_checkable
class ShowsMore(Protocol):
    """A logger that shows more than numbers."""

    def show_table(self, name: str, rows: Rows, step: int) -> None: ...
    def show_distribution(self, name: str, values: Sequence[float], step: int) -> None: ...


@runtime_checkable
class KeepsCompletions(Protocol):
    """A logger that keeps GRPO's samples as they are."""

    def log_completions(self, rows: Rows) -> None: ...


def open_logger(config: Config, *, stage: str, stage_folder: Path, run_folder: Path) -> Logger:
    """The logger of a stage, in `logs/` of the run folder. Raises `ConfigError` where a package or a key is missing."""
    logs_folder = run_folder / LOGS
    logs_folder.mkdir(parents=True, exist_ok=True)
    chosen = config.logger
    try:
        if chosen.name == "csv":
            return CSVLogger(logs_folder, name=stage, version="csv")
        if chosen.name == "tensorboard":
            from fires_exp.training.loggers.tensorboard import StageTensorBoardLogger

            return StageTensorBoardLogger(logs_folder, stage)
        if chosen.wandb_mode == "online" and not os.environ.get("WANDB_API_KEY"):
            raise ConfigError("logger.wandb_mode=online needs WANDB_API_KEY in the environment; or choose logger=wandb, offline")
        from fires_exp.training.loggers.wandb import StageWandbLogger, WandbStartError

        try:
            return StageWandbLogger(
                config, stage=stage, stage_folder=stage_folder, run_folder=run_folder, logs_folder=logs_folder
            )
        except WandbStartError as error:
            log.warning("W&B: %s; %s goes on without it, with its numbers in %s", error, stage, logs_folder / stage / "csv")
            return CSVLogger(logs_folder, name=stage, version="csv")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"logger={chosen.name} needs a package that is not installed: pip install fires-exp[{chosen.name}] ({error})"
        ) from None


def replay_steps(logger: Logger, config: LoggerConfig, *, metrics: Path, completions: Path) -> None:
    """Give a new logger the steps that an interrupted stage had logged."""
    shown = {step: list(rows) for step, rows in groupby(_rows(completions), key=lambda row: row["step"])}
    for row in _rows(metrics):
        step = row.pop("step")
        log_completions([logger], config, shown.pop(step, []), step)
        logger.log_metrics(row, step=step)


def log_completions(loggers: Sequence[object], config: LoggerConfig, rows: Rows, step: int) -> None:
    """A step's rows of `completions.jsonl`: whole to the loggers that keep them, as a table and as distributions to others."""
    for logger in loggers if rows else ():
        if isinstance(logger, KeepsCompletions):
            logger.log_completions(rows)
    show_table(loggers, COMPLETIONS.key, completions_table.table(rows, config.completions), step)
    for logger in loggers if rows else ():
        if isinstance(logger, ShowsMore):
            for name, values in completions_table.distributions(rows).items():
                logger.show_distribution(name, values, step)


def show_table(loggers: Sequence[object], name: str, rows: Rows, step: int) -> None:
    """A table of texts and numbers to the loggers that show such."""
    for logger in loggers if rows else ():
        if isinstance(logger, ShowsMore):
            logger.show_table(name, rows, step)


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in complete_lines(path)]
