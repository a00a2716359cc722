"""`python -m fires_exp`: compose the configuration, write it into the run folder, become the job that runs it.

A single run turns into the job (`exec`), so signals reach it and nothing of Hydra is left. A sweep starts each job as a
process of its own, so that no state leaks from one to the next.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from fires_exp.config.load import load_config, register_schema, write_yaml
from fires_exp.config.secrets import refuse_secrets, without_secrets
from fires_exp.errors import FiresError

USER_ERROR = 2
JOB_FAILED = 1

_failed: list[Path] = []

register_schema()


@hydra.main(version_base="1.3", config_path="pkg://fires_exp.conf", config_name="config")
def compose_and_start(tree: DictConfig) -> None:
    """Check the tree and start its job in Hydra's output folder."""
    try:
        config = load_config(tree)
    except FiresError as error:
        print(f"fires_exp: {without_secrets(str(error))}", file=sys.stderr)
        sys.exit(USER_ERROR)
    hydra_config = HydraConfig.get()
    run_folder = Path(hydra_config.runtime.output_dir)
    try:
        write_yaml(config, run_folder / "resolved.yaml")
    except OSError as error:
        print(
            f"fires_exp: {run_folder} cannot be written ({error.strerror}); make room, or write hydra.run.dir=", file=sys.stderr
        )
        sys.exit(USER_ERROR)
    command = [sys.executable, "-m", "fires_exp.job", str(run_folder)]
    sys.stdout.flush()
    if hydra_config.mode is RunMode.MULTIRUN:
        status = subprocess.run(command, check=False).returncode
        if status != 0:
            print(f"fires_exp: the job in {run_folder} ended with status {status}; the others go on", file=sys.stderr)
            _failed.append(run_folder)
    else:
        os.execv(sys.executable, command)  # noqa: S606


def main() -> None:
    """Entry point of `python -m fires_exp` and of the command `fires-exp`."""
    try:  # before Hydra writes what it was given into the run folder
        refuse_secrets((argument.partition("=")[0], argument) for argument in sys.argv[1:])
    except FiresError as error:
        print(f"fires_exp: {error}", file=sys.stderr)
        sys.exit(USER_ERROR)
    compose_and_start()
    if _failed:
        sys.exit(JOB_FAILED)


if __name__ == "__main__":
    main()
