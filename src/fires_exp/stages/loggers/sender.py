"""Weights & Biases gets a run from a process of its own that follows the run's file: training never waits for the network.

`wandb`'s own online mode asks the server in the midst of a step when a table is logged, for as long as the server is down.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fires_exp.launch import STARTER, follow_starter


class Sender:
    """Follows the run in `folder`, which is written as if offline, until the run is finished; its words go to `words`."""

    def __init__(self, folder: Path, words: Path) -> None:
        reading, self._writing = os.pipe()  # that closes with this process, whatever ends it
        # with a service of its own: if it falls, it takes nothing with it
        environment = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
        with words.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fires_exp.stages.loggers.sender", str(folder)],
                env=environment | {STARTER: str(reading)},
                pass_fds=(reading,),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        os.close(reading)

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
            os.close(self._writing)
            self._process.wait()


def main(folder: str) -> None:
    """Send what is in the folder of a run, and what comes to it."""
    follow_starter()
    from wandb.cli.cli import cli

    cli(["beta", "sync", "--live", folder])


if __name__ == "__main__":
    main(sys.argv[1])
