"""Stopping before the end, so that the same command goes on: SIGTERM, which a cluster sends before it takes a node away, and
`trainer.time_limit`.

Where work is done in steps, they are `deferred`: the step under way is finished and kept. Elsewhere they stop a run at once; a
stage goes on from what it has written.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from fires_exp.distributed import collectives
from fires_exp.errors import StoppedError

_LIMIT = "trainer.time_limit"

_asked: str | None = None
_deferred = False
_interrupted = False
_ends_at = float("inf")


def listen(time_limit: str | None) -> None:
    """From now on this process stops when it is told to, or when so much time ("[days-]hours:minutes:seconds") has passed."""
    global _asked, _ends_at, _interrupted
    _asked, _ends_at, _interrupted = None, float("inf"), False
    hear_sigterm()
    signal.signal(signal.SIGINT, _interrupt)
    if time_limit is not None:
        _ends_at = time.monotonic() + seconds_of(time_limit)
        signal.signal(signal.SIGALRM, _stop)
        signal.setitimer(signal.ITIMER_REAL, seconds_of(time_limit))


def over() -> None:
    """The run has ended: what comes now must not change its status."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def hear_sigterm() -> None:
    """Take SIGTERM (back) from whoever handles it."""
    signal.signal(signal.SIGTERM, _stop)


def seconds_of(duration: str) -> int:
    """
    >>> seconds_of("00:55:00"), seconds_of("1-02:00:30")
    (3300, 93630)
    """
    days, _, clock = duration.rpartition("-")
    hours, minutes, seconds = map(int, clock.split(":"))
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


@contextmanager
def deferred() -> Iterator[None]:
    """Inside, a stop waits for the next `reason`."""
    global _deferred
    _deferred = True
    try:
        yield
    finally:
        _deferred = False


def reason(longest_step_seconds: float) -> str | None:
    """Why to stop here, None to go on; all ranks ask together and get the same. There is time for one more step if there is for
    one that takes as long as the longest so far. Raises an interrupt again that was lost on its way: Python drops what is raised
    while it collects garbage."""
    late = time.monotonic() + longest_step_seconds > _ends_at
    found = collectives.gather((_interrupted, _asked or (_LIMIT if late else None)))
    if any(interrupted for interrupted, _ in found):
        raise KeyboardInterrupt
    return next((one for _, one in found if one is not None), None)


def _stop(number: int, _: FrameType | None) -> None:
    global _asked
    first = _asked is None
    _asked = _asked or (_LIMIT if number == signal.SIGALRM else signal.Signals(number).name)
    if first and not _deferred:
        raise StoppedError(f"stopped by {_asked}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _interrupted
    _interrupted = True
    raise KeyboardInterrupt
