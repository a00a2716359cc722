"""`python -m fires_exp`: compose the configuration, write it into the run folder, become the job that runs it.

A single run turns into the job (`exec`), so signals reach it and nothing of Hydra is left. A sweep starts each job as a
process of its own, so that no state leaks from one to the next, and also where a launcher started the composing elsewhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from fires_exp.cli.optimized_metric import objective_of
from fires_exp.config.load import load_config, register_schema, write_yaml
from fires_exp.config.root import Config
from fires_exp.config.secrets import refuse_secrets, without_secrets
from fires_exp.errors import ConfigError, FiresError

USER_ERROR = 2
INTERRUPTED = 130
RUN_RECORD = "run.json"
RUNNING = "running"

register_schema()


@hydra.main(version_base="1.3", config_path="pkg://fires_exp.conf", config_name="config")
def compose_and_start(tree: DictConfig) -> float | None:
    """Check the tree and start its job in Hydra's output folder. In a sweep, what `objective` names."""
    hydra_config = HydraConfig.get()
    run_folder = Path(hydra_config.runtime.output_dir)
    try:
        config = load_config(tree)
        _keep(config, run_folder)
        if hydra_config.mode is RunMode.MULTIRUN:
            return _run_in_sweep(config, run_folder)
    except FiresError as error:
        line = f"fires_exp: {without_secrets(str(error))}"
        print(line, file=sys.stderr)
        if hydra_config.mode is RunMode.MULTIRUN:  # an exit would end the other jobs too: Hydra goes on, and says this at its end
            raise CompactHydraException(line) from None
        sys.exit(USER_ERROR)
    sys.stdout.flush()
    return os.execv(sys.executable, _job(run_folder))  # noqa: S606


def _keep(config: Config, run_folder: Path) -> None:
    try:
        write_yaml(config, run_folder / "resolved.yaml")
    except OSError as error:
        raise ConfigError(f"{run_folder} cannot be written ({error.strerror}); make room, or write hydra.run.dir=") from None


def _run_in_sweep(config: Config, run_folder: Path) -> float | None:
    sys.stdout.flush()
    (run_folder / RUN_RECORD).unlink(missing_ok=True)  # of an earlier run, whose reason is not this one's
    status = subprocess.run(_job(run_folder), check=False).returncode
    if status != 0:
        raise FiresError(f"the job in {run_folder} ended with status {status}{_why(run_folder)}")
    return None if config.optimized_metric is None else objective_of(run_folder, config.optimized_metric)


def _why(run_folder: Path) -> str:
    """In brackets, as far as the run came to write it down: a launcher may keep elsewhere what the job said."""
    record = run_folder / RUN_RECORD
    status = json.loads(record.read_text(encoding="utf-8"))["status"] if record.is_file() else ""
    return f" ({status})" if status not in ("", RUNNING) else ""  # a killed run had no time to say more


def _job(run_folder: Path) -> list[str]:
    return [sys.executable, "-m", "fires_exp.cli.job", str(run_folder)]


def main() -> None:
    """Entry point of `python -m fires_exp` and of the command `fires-exp`."""
    try:  # before Hydra writes what it was given into the run folder
        refuse_secrets((argument.partition("=")[0], argument) for argument in sys.argv[1:])
    except FiresError as error:
        print(f"fires_exp: {error}", file=sys.stderr)
        sys.exit(USER_ERROR)
    # Hydra's sweeper calls distributions and options of Optuna by names of before Optuna 3
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"optuna|hydra_plugins\.hydra_optuna_sweeper")
    try:
        compose_and_start()
    except KeyboardInterrupt:  # of a sweep; a single run has become its job
        print("fires_exp: interrupted; the same command with the same hydra.sweep.dir= goes on", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
