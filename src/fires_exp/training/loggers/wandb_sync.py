"""Weights & Biases gets a run from a process of its own that follows the run's file: training never waits for the network.

`wandb`'s own online mode asks the server in the midst of a step when a table is logged, for as long as the server is down.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path


class Sender:
    """Follows the run in `folder`, which is written as if offline, until the run is finished; its words go to `words`."""

    def __init__(self, folder: Path, words: Path) -> None:
        # with a service of its own: if it falls, it takes nothing with it
        environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
        with words.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fires_exp.training.loggers.wandb_sync", str(folder)],
                env=environment,
                stdin=subprocess.PIPE,  # which closes with this process, whatever ends it
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # an interrupt from the terminal is not for it
            )

    @property
    def gave_up(self) -> bool:
        """Whether it is gone; before the run is finished it should not be."""
        return self._process.poll() is not None

    def finish(self, seconds: float) -> bool:
        """Wait so long for it to send the rest; whether it did."""
        try:
            return self._process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()


def main(folder: str) -> None:
    """Send what is in the folder of a run, and what comes to it."""
    threading.Thread(target=_end_with_starter, daemon=True).start()
    from wandb.cli.cli import cli

    cli(["beta", "sync", "--live", folder])


def _end_with_starter() -> None:
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
