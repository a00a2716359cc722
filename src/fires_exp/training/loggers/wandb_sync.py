"""Uploads a W&B run from a separate process that follows the run's file, so that training never waits for the network.

The online mode of `wandb` itself blocks the training step when a table is logged, for as long as the server is down.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path


class SyncProcess:
    """Uploads the offline run in `folder` while it is written, until it is finished. Its output is appended to `log_file`."""

    def __init__(self, folder: Path, log_file: Path) -> None:
        # without this variable it starts its own wandb service, whose failure does not affect this process
        environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
        with log_file.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fires_exp.training.loggers.wandb_sync", str(folder)],
                env=environment,
                stdin=subprocess.PIPE,  # closes when this process ends, for whatever reason
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that an interrupt from the terminal does not reach it
            )

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended, which it should not before the run is finished."""
        return self._process.poll() is not None

    def finish(self, seconds: float) -> bool:
        """Wait up to `seconds` for the upload of the rest; whether it was completed."""
        try:
            return self._process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()


def main(folder: str) -> None:
    """Upload the run in a folder, including what is still being added."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from wandb.cli.cli import cli

    cli(["beta", "sync", "--live", folder])


def _end_with_parent() -> None:
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
