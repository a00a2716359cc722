"""`fires-exp [override …]`: compose the configuration, write it into the run folder, become the job that runs it.

A single run replaces this process by the job (`exec`), so that signals reach the job and nothing of Hydra is left. A sweep (-m)
starts each job as a process of its own, so that no state passes from one to the next, also where a launcher composes elsewhere.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import CompactHydraException, HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from fires_exp.cli.compose import CONF, TRAINING_ROOT, compose_training, compose_tree, refuse_secret_overrides
from fires_exp.cli.console import command, print_error
from fires_exp.cli.optimized_metric import read_optimized_metric
from fires_exp.config.load import EVERY_KEY, load_config, register_schema, write_yaml
from fires_exp.config.renamed import refuse_old_overrides
from fires_exp.config.root import Config
from fires_exp.config.secrets import without_secrets
from fires_exp.config.suggest import explain
from fires_exp.errors import ConfigError, ExitCode, FiresError

RUN_RECORD = "run.json"
RUNNING = "running"
FULL_ERRORS = "HYDRA_FULL_ERROR"
SWEEP_MODE = "hydra.mode=MULTIRUN"
# what used to be a recipe or a key of a run, and the command that it belongs to now
MOVED_TO_COMMANDS = {
    "recipe=score": "fires-exp score predictions=<file> references=<file>",
    "predictions": "fires-exp score predictions=<file> references=<file>",
    "references": "fires-exp score predictions=<file> references=<file>",
    "recipe=export": "fires-exp export adapter=<run folder> output=<new folder>",
    "export_folder": "fires-exp export adapter=<run folder> output=<new folder>",
    "recipe=chat": "fires-exp chat adapter=<run folder>",
    "chat": "fires-exp chat adapter=<run folder>",
    "adapter": "fires-exp chat adapter=<run folder>, or fires-exp export adapter=<run folder>",
    "recipe=inspect": "fires-exp inspect dataset=<name>",
}

register_schema()


class SweepJobError(CompactHydraException):
    """A job of a sweep failed; the message is the whole line. Hydra runs the other jobs and raises it at the end."""


@hydra.main(version_base="1.3", config_path=f"pkg://{CONF}", config_name=TRAINING_ROOT)
def compose_and_start(tree: DictConfig) -> float | None:
    """Check the tree and start its job in Hydra's output folder. Returns, in a sweep, the value of `optimized_metric`."""
    hydra_config = HydraConfig.get()
    run_folder = Path(hydra_config.runtime.output_dir)
    in_sweep = hydra_config.mode is RunMode.MULTIRUN
    try:
        config = load_config(tree)
        _write_config(config, run_folder)
        if in_sweep:
            return _run_in_sweep(config, run_folder)
    except FiresError as error:
        print_error(error)
        if in_sweep:
            raise SweepJobError(f"fires_exp: {without_secrets(str(error))}") from None
        sys.exit(error.exit_code)
    sys.stdout.flush()
    return os.execv(sys.executable, _job_command(run_folder))  # noqa: S606


def _write_config(config: Config, run_folder: Path) -> None:
    try:
        write_yaml(config, run_folder / "resolved.yaml")
    except OSError as error:
        raise ConfigError(f"{run_folder} cannot be written ({error.strerror}); make room, or write hydra.run.dir=") from None


def _run_in_sweep(config: Config, run_folder: Path) -> float | None:
    sys.stdout.flush()
    (run_folder / RUN_RECORD).unlink(missing_ok=True)  # of an earlier run, which may have failed for another reason
    status = subprocess.run(_job_command(run_folder), check=False).returncode
    if status != ExitCode.DONE:
        raise FiresError(f"the job in {run_folder} ended with status {status}{_recorded_reason(run_folder)}")
    return None if config.optimized_metric is None else read_optimized_metric(run_folder, config.optimized_metric)


def _recorded_reason(run_folder: Path) -> str:
    """The reason in run.json, in brackets: a launcher may keep the job's own output elsewhere. Empty where the job was killed."""
    record = run_folder / RUN_RECORD
    status = json.loads(record.read_text(encoding="utf-8"))["status"] if record.is_file() else ""
    return f" ({status})" if status not in ("", RUNNING) else ""


def _job_command(run_folder: Path) -> list[str]:
    return [sys.executable, "-m", "fires_exp.cli.job", str(run_folder)]


@command
def main(arguments: list[str]) -> int:
    """Returns an `ExitCode`, unless this process became the job."""
    refuse_secret_overrides(arguments)  # before Hydra writes the command line into the run folder
    parser = get_args_parser()
    parser.error = lambda message: _refuse_option(parser, message)  # type: ignore[method-assign]
    options = parser.parse_args(arguments)
    _refuse_moved(options.overrides)
    refuse_old_overrides(options.overrides)
    if not (options.hydra_help or options.shell_completion or options.config_name or options.config_path or options.config_dir):
        if options.multirun or SWEEP_MODE in options.overrides:
            _check_sweep(options.overrides)
        elif options.cfg or options.info:
            compose_tree(TRAINING_ROOT, Config, options.overrides)
        else:
            compose_training(options.overrides)
    # Hydra's sweeper refers to distributions and options of Optuna by names from before Optuna 3
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"optuna|hydra_plugins\.hydra_optuna_sweeper")
    sys.argv[1:] = arguments
    return _hand_over_to_hydra(options.overrides)


def _hand_over_to_hydra(overrides: Sequence[str]) -> int:
    """Run Hydra's main function with its own printing of errors off, which advises to set a variable for a stack trace."""
    with_trace = FULL_ERRORS in os.environ
    os.environ.setdefault(FULL_ERRORS, "1")
    try:
        compose_and_start()
    except SweepJobError as error:
        print(error, file=sys.stderr)
        return ExitCode.INCOMPLETE
    except (HydraException, OmegaConfBaseException) as error:
        if with_trace:
            raise
        raise ConfigError(explain(error, overrides, Config, EVERY_KEY)) from None
    except KeyboardInterrupt:  # of a sweep; a single run is another process by now
        print_error("interrupted; the same command with the same hydra.sweep.dir= continues")
        return ExitCode.INTERRUPTED
    finally:
        if not with_trace:
            os.environ.pop(FULL_ERRORS, None)
    return ExitCode.DONE


def _refuse_option(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    unknown = message.partition("unrecognized arguments: ")[2].partition(" ")[0]
    known = [name for action in parser._actions for name in action.option_strings]
    if unknown:
        matches = difflib.get_close_matches(unknown, known, n=1)
        meant = f"did you mean {matches[0]}? " if matches else ""
        raise ConfigError(f"{unknown}: unknown option; {meant}fires-exp --hydra-help lists the options")
    raise ConfigError(f"{message}; fires-exp --hydra-help lists the options")


def _refuse_moved(overrides: Sequence[str]) -> None:
    """Raises `ConfigError` for what is a command of its own now."""
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if new := MOVED_TO_COMMANDS.get(override) or MOVED_TO_COMMANDS.get(key.partition(".")[0]):
            raise ConfigError(f"{override}: a command of its own now; write {new}")


def _check_sweep(overrides: Sequence[str]) -> None:
    """Raises `ConfigError` where Hydra could not compose a job, before it starts the first. Each value of each list is tried
    once, with the first values of the other lists; ranges and distributions are left to the sweeper."""
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError(explain(error, overrides, Config, EVERY_KEY)) from None
    for selection in _one_value_each(parsed):
        compose_tree(TRAINING_ROOT, Config, selection)


def _one_value_each(parsed: Sequence[Override]) -> Iterator[list[str]]:
    """Override lists without sweeps that together hold every value of every list."""
    values = [_values(override) for override in parsed]
    first = [of_override[0] for of_override in values if of_override]
    yield first
    for index, of_override in enumerate(values):
        for value in of_override[1:]:
            yield [value if other == index else values[other][0] for other in range(len(values)) if values[other]]


def _values(override: Override) -> list[str]:
    """The override once for each value of its list; empty for a range, a pattern or a distribution."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    if override.value_type not in (ValueType.SIMPLE_CHOICE_SWEEP, ValueType.CHOICE_SWEEP):
        return []
    key = override.get_key_element()
    return [f"{key}={value}" for value in override.sweep_string_iterator()]
