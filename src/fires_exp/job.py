"""One job: `python -m fires_exp.job RUN_FOLDER` runs the recipe of `RUN_FOLDER/resolved.yaml` there.

Starting it again in the same folder goes on where it stopped.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path

from fires_exp.config.load import load_yaml
from fires_exp.config.secrets import without_secrets
from fires_exp.errors import FiresError

USER_ERROR = 2


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 the user's to mend (one line), 130 interrupted; anything else is a defect with its traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        print("usage: python -m fires_exp.job RUN_FOLDER", file=sys.stderr)
        return USER_ERROR
    run_folder = Path(arguments[0])
    _quiet_libraries()
    try:
        if not (run_folder / "resolved.yaml").is_file():
            raise FiresError(f"{run_folder / 'resolved.yaml'} is not there; start with python -m fires_exp")
        config = load_yaml(run_folder / "resolved.yaml")
        _log_to(run_folder)
        from fires_exp.stages.recipe import run_recipe

        for library in ("pytorch_lightning", "lightning_fabric"):  # they set their own level when they are imported
            logging.getLogger(library).setLevel(logging.WARNING)
        run_recipe(config, run_folder)
    except FiresError as error:
        print(f"fires_exp: {without_secrets(str(error))}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print(f"fires_exp: interrupted; go on with: python -m fires_exp.job {run_folder}", file=sys.stderr)
        return 130
    return 0


def _log_to(run_folder: Path) -> None:
    """Our own messages to the terminal and to `log.txt`; a message is a line."""
    logger = logging.getLogger("fires_exp")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in (logging.StreamHandler(), _LogFile(run_folder / "log.txt", encoding="utf-8")):
        handler.setFormatter(_LineFormatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
        logger.addHandler(handler)


class _LogFile(logging.FileHandler):
    """A full disk costs the file its line and nothing else: the terminal has it too."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class _LineFormatter(logging.Formatter):
    """A line without keys and passwords."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


def _quiet_libraries() -> None:
    """The libraries' banners and advice would bury the run's own lines."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    for module in ("pytorch_lightning", "transformers", "torch", "lightning_fabric"):
        warnings.filterwarnings("ignore", module=module)


if __name__ == "__main__":
    sys.exit(main())
