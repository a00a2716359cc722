"""One job: `python -m fires_exp.cli.job RUN_FOLDER` runs the recipe of `RUN_FOLDER/resolved.yaml` there.

Starting it again in the same folder goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import sys
import warnings
from pathlib import Path
from types import FrameType

from fires_exp.config.load import load_yaml
from fires_exp.config.root import Config
from fires_exp.config.secrets import without_secrets
from fires_exp.distributed.launch import OTHER_RANK_LOST, check_deepspeed, exit_with_launcher, rank_environment, start_ranks
from fires_exp.errors import FiresError, RankError, StoppedError

USER_ERROR = 2
STOPPED = 75  # what sysexits.h calls a temporary failure: try again


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done, 2 the user's to mend (one line), 3 another process of the run is gone, 75 stopped before the end, 130
    interrupted; anything else is a defect with its traceback."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if len(arguments) != 1:
        print("usage: python -m fires_exp.cli.job RUN_FOLDER", file=sys.stderr)
        return USER_ERROR
    run_folder = Path(arguments[0])
    _quiet_libraries()
    _allocate_huge_pages()
    try:
        signal.signal(signal.SIGTERM, _stop_at_start)
        if not (run_folder / "resolved.yaml").is_file():
            raise FiresError(f"{run_folder / 'resolved.yaml'} is not there; start with python -m fires_exp")
        config = load_yaml(run_folder / "resolved.yaml")
        check_deepspeed(config.trainer)
        if config.trainer.strategy == "single":
            _run(config, run_folder, first=True)
        elif told := rank_environment(config.trainer, os.environ):
            os.environ.update(told)
            exit_with_launcher()
            _run_rank(config, run_folder, int(told["RANK"]))
        else:
            return start_ranks(run_folder, config.trainer, os.environ)
    except RankError as error:
        print(f"fires_exp: {without_secrets(str(error))}", file=sys.stderr)
        return OTHER_RANK_LOST
    except StoppedError as error:
        print(f"fires_exp: {error}; go on with: python -m fires_exp.cli.job {run_folder}", file=sys.stderr)
        return STOPPED
    except FiresError as error:
        print(f"fires_exp: {without_secrets(str(error))}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print(f"fires_exp: interrupted; go on with: python -m fires_exp.cli.job {run_folder}", file=sys.stderr)
        return 130
    return 0


def _stop_at_start(number: int, _: FrameType | None) -> None:
    raise StoppedError("stopped by SIGTERM at its start")


def _run(config: Config, run_folder: Path, *, first: bool) -> None:
    _log_to(run_folder, first=first)
    from fires_exp.pipeline.run import run_recipe
    from fires_exp.training import preemption

    preemption.install_handlers(config.trainer.time_limit)
    for library in ("pytorch_lightning", "lightning_fabric"):  # they set their own level when they are imported
        logging.getLogger(library).setLevel(logging.WARNING)
    try:
        run_recipe(config, run_folder)
    finally:
        preemption.ignore_signals()


def _run_rank(config: Config, run_folder: Path, rank: int) -> None:
    """Meet the other ranks, make sure that all were asked for the same, do it."""
    from fires_exp.distributed import collectives
    from fires_exp.distributed.device import select_device

    collectives.connect(rank, config.trainer.processes, select_device(config.trainer))
    try:
        collectives.check_same("their run folder (give hydra.run.dir=)", str(run_folder.resolve()))
        collectives.check_same(
            "their configuration", hashlib.sha256((run_folder / "resolved.yaml").read_bytes()).hexdigest()[:12]
        )
        config.trainer.progress &= rank == 0
        _run(config, run_folder, first=rank == 0)
    finally:
        collectives.disconnect()


def _log_to(run_folder: Path, *, first: bool) -> None:
    """Our own messages to the terminal and to `log.txt`; a message is a line. Other ranks than the first
    only say what is wrong."""
    logger = logging.getLogger("fires_exp")
    logger.setLevel(logging.INFO if first else logging.WARNING)
    logger.propagate = False
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    if first:
        handlers.append(_LogFile(run_folder / "log.txt", encoding="utf-8"))
    for handler in handlers:
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


def _allocate_huge_pages() -> None:
    """Activations in pages of their own: glibc's heap leaves gaps between aligned blocks that it never fills again, up to more
    than the blocks themselves (docs/estimates.md). Read by torch when it first allocates."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


if __name__ == "__main__":
    sys.exit(main())
