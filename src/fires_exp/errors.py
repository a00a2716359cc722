"""Everything that can go wrong for a user, and who raises it.

Each message is one line: what was found, where (file and row), and what to write instead. `__main__` catches `FiresError`,
prints the line and exits with status 2; a traceback therefore always means a defect in the project.
"""

from __future__ import annotations

from pathlib import Path


class FiresError(Exception):
    """Base of all errors that are the user's to mend."""


class ConfigError(FiresError):
    """A value in the configuration is missing, unknown or contradicts another. Raised by `config` and by `stages`."""


class ServiceError(FiresError):
    """A service did not answer, or nothing to the point, or its budget is used up. Raised by `service` and `scores.judge`."""


class DataError(FiresError):
    """A file of a dataset is missing, or one of its rows is wrong. Raised by `data` and `thinking.bank`."""


class FrameError(FiresError):
    """A clip cannot be read and `frames.on_unreadable=error`. Raised by `data.frames`."""


class BackboneError(FiresError):
    """Weights are missing, changed on disk or not what their name promises. Raised by `policy`."""


class ScoreError(FiresError):
    """Data that a score needs is missing, or files to score do not fit together. Raised by `scores` and `stages.score`."""


class TrainingError(FiresError):
    """Training met numbers it must not go on with, or a run's own promise broke. Raised by `modules`."""


class CollapseError(TrainingError):
    """GRPO was stopped by `health.stop`. `folder` holds its curves, samples and last good checkpoint. Raised by `stages`."""

    def __init__(self, message: str, folder: Path) -> None:
        super().__init__(message)
        self.folder = folder


class RankError(FiresError):
    """The processes of a distributed run lost one of them, or do not agree. Raised by `modules.ranks` and by `launch`."""


class StoppedError(FiresError):
    """A run was told to stop before its end; the same command goes on. Raised by `stages`."""


class StageError(FiresError):
    """An artifact is missing, damaged or in use by another run. Raised by `stages`."""


class ExhaustedError(FiresError):
    """Memory or disk is used up. Raised by `stages`."""


class ReportError(FiresError):
    """The rows of an experiment, or the runs behind them, cannot be read. Raised by `report.experiment`."""


class StudyError(FiresError):
    """A human evaluation cannot be made of two systems, or its key or ratings cannot be read. Raised by `report.human_eval`."""
