"""What all commands share with the terminal: one line for an error, an exit code, the log."""

from __future__ import annotations

import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from fires_exp.config.secrets import without_secrets
from fires_exp.errors import ExitCode, FiresError


def print_error(message: object) -> None:
    """One line on stderr, without keys and passwords."""
    print(f"fires_exp: {without_secrets(str(message))}", file=sys.stderr)


def command(run: Callable[[list[str]], int | None]) -> Callable[[list[str]], int]:
    """Decorator of a command's `main`: a `FiresError` becomes one line and its exit code, Ctrl-C one line and `INTERRUPTED`."""

    @functools.wraps(run)
    def main(arguments: list[str]) -> int:
        try:
            return run(arguments) or ExitCode.DONE
        except FiresError as error:
            print_error(error)
            return error.exit_code
        except KeyboardInterrupt:
            print_error("interrupted")
            return ExitCode.INTERRUPTED

    return main


def log_to_terminal(level: int) -> None:
    """The project's own messages to stderr, one line each with its time."""
    logger = logging.getLogger("fires_exp")
    logger.setLevel(level)
    logger.propagate = False
    logger.handlers.clear()
    _add_handler(logging.StreamHandler())


def log_to_file(path: Path) -> None:
    """The same messages to a file, too."""
    _add_handler(_LogFile(path, encoding="utf-8"))


def quiet_libraries() -> None:
    """Switch off the libraries' banners and advice, which would hide the command's own lines. Call it before they are
    imported."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    for module in ("pytorch_lightning", "transformers", "torch", "lightning_fabric"):
        warnings.filterwarnings("ignore", module=module)


def _add_handler(handler: logging.Handler) -> None:
    handler.setFormatter(_LineFormatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.getLogger("fires_exp").addHandler(handler)


class _LogFile(logging.FileHandler):
    """A file that a full disk costs lines, but not the run: the terminal has them too."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class _LineFormatter(logging.Formatter):
    """Removes keys and passwords."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))
