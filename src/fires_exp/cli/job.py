"""The process that runs a run folder: `fires-exp resume RUN_FOLDER`, or `python -m fires_exp.cli.job RUN_FOLDER`.

It runs the recipe of `RUN_FOLDER/resolved.yaml`, and continues where an earlier process was stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from fires_exp.cli.console import command, log_to_file, log_to_terminal, print_error, quiet_libraries
from fires_exp.config.load import load_yaml
from fires_exp.config.root import Config
from fires_exp.distributed.launch import check_deepspeed, exit_with_launcher, rank_environment, start_ranks
from fires_exp.errors import ConfigError, ExitCode, StoppedError


@command
def main(arguments: list[str]) -> int:
    """Returns an `ExitCode`; of a distributed run, that of the rank that ended it."""
    run_folder: Path = _parser().parse_args(arguments).run_folder
    quiet_libraries()
    _allocate_huge_pages()
    resume = f"fires-exp resume {run_folder}"
    try:
        return _run_or_start_ranks(run_folder)
    except StoppedError as error:
        print_error(f"{error}; resume with: {resume}")
        return ExitCode.STOPPED
    except KeyboardInterrupt:
        print_error(f"interrupted; resume with: {resume}")
        return ExitCode.INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fires-exp resume", description="Resume a run that was stopped, or run it again.")
    parser.add_argument("run_folder", metavar="RUN_FOLDER", type=Path, help="a folder with resolved.yaml")
    return parser


def _run_or_start_ranks(run_folder: Path) -> int:
    signal.signal(signal.SIGTERM, _stop_before_training)
    if not (run_folder / "resolved.yaml").is_file():
        raise ConfigError(f"{run_folder / 'resolved.yaml'} does not exist; start a run with fires-exp")
    config = load_yaml(run_folder / "resolved.yaml")
    check_deepspeed(config.trainer)
    if config.trainer.strategy == "single":
        _run(config, run_folder, is_first_rank=True)
        return ExitCode.DONE
    environment = rank_environment(config.trainer, os.environ)
    if environment is None:
        return start_ranks(run_folder, config.trainer, os.environ)
    os.environ.update(environment)
    exit_with_launcher()
    _run_rank(config, run_folder, int(environment["RANK"]))
    return ExitCode.DONE


def _stop_before_training(signal_number: int, _: FrameType | None) -> None:
    raise StoppedError("stopped by SIGTERM at its start")


def _run(config: Config, run_folder: Path, *, is_first_rank: bool) -> None:
    log_to_terminal(logging.INFO if is_first_rank else logging.WARNING)
    if is_first_rank:
        log_to_file(run_folder / "log.txt")
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
    """Connect to the other ranks, check that all have the same task, run it."""
    from fires_exp.distributed import collectives
    from fires_exp.distributed.device import select_device

    collectives.connect(rank, config.trainer.processes, select_device(config.trainer))
    try:
        collectives.check_same("their run folder (give hydra.run.dir=)", str(run_folder.resolve()))
        collectives.check_same(
            "their configuration", hashlib.sha256((run_folder / "resolved.yaml").read_bytes()).hexdigest()[:12]
        )
        config.trainer.progress &= rank == 0
        _run(config, run_folder, is_first_rank=rank == 0)
    finally:
        collectives.disconnect()


def _allocate_huge_pages() -> None:
    """Put activations into pages of their own: glibc's heap leaves gaps between aligned blocks that it never fills again, up to
    more than the blocks themselves (docs/estimates.md). Torch reads the variable when it first allocates."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
