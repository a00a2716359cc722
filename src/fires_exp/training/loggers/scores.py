"""Logs the final table of a run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from fires_exp.config.root import Config
from fires_exp.metrics.rows import MetricsTable
from fires_exp.training.loggers.factory import open_logger, show_table
from fires_exp.training.loggers.panels import EVALUATION, SCORES, score_name


def log_scores(config: Config, run_folder: Path, table: MetricsTable) -> None:
    """Log all metrics of all policies, each by its name and together as a table, to the configured logger."""
    logger = open_logger(config, stage=EVALUATION, stage_folder=run_folder, run_folder=run_folder)
    try:
        rows = [{"policy": policy, **asdict(row)} for policy, metrics in table.systems.items() for row in metrics]
        show_table([logger], SCORES.key, rows, 0)
        logger.log_metrics({score_name(row["policy"], row["name"]): row["value"] for row in rows}, step=0)
        logger.save()
    finally:
        logger.finalize("success")
