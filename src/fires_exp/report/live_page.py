"""The page of a run while the run goes on."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from fires_exp.errors import FiresError
from fires_exp.report.page import write_page

log = logging.getLogger("fires_exp.report")

MINIMUM_SECONDS = 10  # between two versions of the page
TIME_SHARE = 0.02  # of the run's time that writing pages may take


class LivePage:
    """Writes `report.html` again and again, seldom enough to cost a run no more than `TIME_SHARE` of its time.

    A page that cannot be written is logged and never ends the run.
    """

    def __init__(self, run_folder: Path) -> None:
        self.run_folder = run_folder
        self._next_time = float("-inf")

    def refresh(self) -> None:
        """Write the page, unless it was written a moment ago. Call it whenever something was logged."""
        if time.monotonic() >= self._next_time:
            self.write()

    def write(self) -> None:
        """Write the page now, after a change of a stage or at the end of the run."""
        started = time.monotonic()
        try:
            write_page(self.run_folder)
        except (FiresError, OSError, ValueError) as error:
            log.warning("%s was not written: %s", self.run_folder / "report.html", error)
        ended = time.monotonic()
        self._next_time = ended + max(MINIMUM_SECONDS, (ended - started) / TIME_SHARE)
