"""TensorBoard logger of a stage: curves in the project's layout, texts and distributions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.loggers import TensorBoardLogger

from fires_exp.training.loggers.completions_table import as_markdown
from fires_exp.training.loggers.tensorboard_layout import layout


class StageTensorBoardLogger(TensorBoardLogger):
    """Writes to `logs_folder/<stage>/tensorboard`. Events of an earlier attempt are purged; the caller logs all steps again."""

    def __init__(self, logs_folder: Path, stage: str) -> None:
        super().__init__(logs_folder, name=stage, version="tensorboard", purge_step=0)
        self.experiment.add_custom_scalars(layout(stage))

    def show_table(self, name: str, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        self.experiment.add_text(name, as_markdown(rows), step)

    def show_distribution(self, name: str, values: Sequence[float], step: int) -> None:
        self.experiment.add_histogram(name, np.array(values), step)
