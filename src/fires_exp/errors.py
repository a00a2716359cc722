"""Errors with a cause that the user can remove, and the exit code of each.

The message of a `FiresError` is one line: what is wrong, in which file, row or key, and what to write instead. Every command
prints that line on stderr and ends with the error's `exit_code` (`cli/console.py`). A traceback therefore always means a defect
in the code.
"""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path
from typing import ClassVar


class ExitCode(IntEnum):
    """Exit codes of all commands. A process that a signal ended has 128 + the signal's number; any other code is a defect."""

    DONE = 0
    """The command finished."""

    INCOMPLETE = 1
    """Some runs of a sweep failed. The others finished; the same command runs the missing ones."""

    USER_ERROR = 2
    """The command line, the configuration, the data or the machine does not allow the command; one line on stderr says why."""

    RANK_LOST = 3
    """Another process of a distributed run ended; that process reported the reason."""

    STOPPED = 75
    """The run was stopped before its end, by SIGTERM or its time limit, and can be resumed. sysexits.h calls 75 a temporary
    failure."""

    INTERRUPTED = 130
    """Ctrl-C (128 + SIGINT)."""


def signal_exit_code(signal_number: int) -> int:
    """The exit code of a process that this signal ended, as shells report it."""
    return 128 + signal_number


class FiresError(Exception):
    """Base of all errors with a cause that the user can remove.

    Caught by every command, and by `chat`, which shows the line and continues the conversation. `metrics.responses` catches it
    where one metric cannot be computed: the table then lists that metric as absent, with the reason.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.USER_ERROR


class ConfigError(FiresError):
    """A value in the configuration is missing, unknown, or contradicts another one. Raised by `config`, and by any folder that
    learns only later that a value cannot hold (no GPU, no such folder). Caught by the commands alone."""


class ServiceError(FiresError):
    """A chat service does not answer, answers in an unusable form, or its budget is spent. Raised by `services`, `scores.judge`
    and `pipeline`. Caught by the commands alone."""


class DataError(FiresError):
    """A file of a dataset is missing or one of its rows is invalid. Raised by `data`, `thinking`, `prompts`, `baselines` and
    `pipeline`. Caught by the commands alone."""


class FrameError(FiresError):
    """A clip cannot be decoded. Raised by `data.video` and `chat.session`. Caught by `data.video.frames` unless
    `frames.on_unreadable=error`: the turn is then text only."""


class BackboneError(FiresError):
    """Model weights are missing, were changed on disk, or have other shapes than their name promises. Raised by `policy`,
    `scores` and `storage.build_cache`. Caught where another source of the same weights can be tried."""


class ScoreError(FiresError):
    """A score lacks data, or prediction files do not match their references. Raised by `scores` and `metrics`. Caught by
    `metrics.responses`, as every `FiresError`."""


class TrainingError(FiresError):
    """Training met a number that is not finite, or broke an invariant of the run. Raised by `training`, `grpo` and `policy`.
    Caught by the commands alone."""


class CollapseError(TrainingError):
    """`health.stop` ended GRPO. `folder` holds the curves, the samples and the last good checkpoint. Raised by `pipeline`. Caught
    by `pipeline.run`, which shows that folder in the report and raises the error again."""

    def __init__(self, message: str, folder: Path) -> None:
        super().__init__(message)
        self.folder = folder


class RankError(FiresError):
    """The processes of a distributed run lost one of them or disagree. Raised by `distributed`. Caught by `cli.job`."""

    exit_code: ClassVar[ExitCode] = ExitCode.RANK_LOST


class StoppedError(FiresError):
    """A run was asked to stop before its end; it can be resumed. Raised by `training`, `pipeline` and `cli.job`. Caught by
    `cli.job`, which adds the command that resumes it."""

    exit_code: ClassVar[ExitCode] = ExitCode.STOPPED


class StageError(FiresError):
    """An artifact or a file of a run folder is missing or damaged, or an output folder exists already. Raised by `storage`,
    `pipeline`, `export` and `report`. Caught by the commands alone."""


class ExhaustedError(FiresError):
    """Memory or disk space does not suffice. Raised by `pipeline`, before a run starts (an estimate) or when it happens. Caught
    by the commands alone."""


class ReportError(FiresError):
    """The rows of an experiment, or the runs behind them, cannot be read. Raised by `paper` and `report`. Caught by the commands
    alone."""


class StudyError(FiresError):
    """A human evaluation cannot be drawn from two systems, or its key or ratings cannot be read. Raised by `human_eval`. Caught
    by the commands alone."""
