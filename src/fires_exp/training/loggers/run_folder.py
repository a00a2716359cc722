"""Adds each step to the run folder as it is logged, so that its files and its page are current while a stage runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger

from fires_exp.training.fit import COMPLETIONS, METRICS


class RunFolderLogger(Logger):
    """Appends to `metrics.jsonl` and `completions.jsonl` of the run folder; `refresh` is called after every step."""

    def __init__(self, run_folder: Path, stage: str, refresh: Callable[[], None]) -> None:
        super().__init__()
        self._run_folder = run_folder
        self._stage = stage
        self._refresh = refresh

    @property
    def name(self) -> str:
        return "run_folder"

    @property
    def version(self) -> int:
        return 0

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """`resolved.yaml` holds them."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        row = {"stage": self._stage, "step": step, **{name: value for name, value in metrics.items() if name != "epoch"}}
        self._append(METRICS, [json.dumps(row)])

    def log_completions(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows of `completions.jsonl`."""
        self._append(COMPLETIONS, [json.dumps(row, ensure_ascii=False) for row in rows])

    def save(self) -> None:
        self._refresh()

    def _append(self, name: str, lines: Sequence[str]) -> None:
        with (self._run_folder / name).open("a", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in lines)
