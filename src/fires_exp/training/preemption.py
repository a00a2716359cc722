"""Preemption: a run stops early and the same command resumes it. It is triggered by SIGTERM, which a cluster sends before it
reclaims a node, and by `trainer.time_limit`.

Work in steps is done under `deferred`: the current step is finished and kept before the run stops. Elsewhere a run stops
immediately, and its stage resumes from what it has written.
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

_requested_by: str | None = None
_deferred = False
_interrupted = False
_ends_at = float("inf")


def install_handlers(time_limit: str | None) -> None:
    """Handle SIGTERM and SIGINT from now on, and stop after `time_limit` ("[days-]hours:minutes:seconds"), if it is given."""
    global _requested_by, _ends_at, _interrupted
    _requested_by, _ends_at, _interrupted = None, float("inf"), False
    handle_sigterm()
    signal.signal(signal.SIGINT, _interrupt)
    if time_limit is not None:
        _ends_at = time.monotonic() + seconds_of(time_limit)
        signal.signal(signal.SIGALRM, _request_stop)
        signal.setitimer(signal.ITIMER_REAL, seconds_of(time_limit))


def ignore_signals() -> None:
    """Ignore SIGTERM and the time limit from now on: the run has ended, and its status must not change."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def handle_sigterm() -> None:
    """Install the handler of SIGTERM, in place of any other library's."""
    signal.signal(signal.SIGTERM, _request_stop)


def seconds_of(duration: str) -> int:
    """Seconds of "[days-]hours:minutes:seconds".

    >>> seconds_of("00:55:00"), seconds_of("1-02:00:30")
    (3300, 93630)
    """
    days, _, clock = duration.rpartition("-")
    hours, minutes, seconds = map(int, clock.split(":"))
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


@contextmanager
def deferred() -> Iterator[None]:
    """Inside, a stop request takes effect at the next `stop_reason`."""
    global _deferred
    _deferred = True
    try:
        yield
    finally:
        _deferred = False


def stop_reason(longest_step_seconds: float) -> str | None:
    """Why to stop after this step, or None to continue. A collective: all ranks get the same answer.

    The time limit is reached if a step as long as the longest so far would exceed it. Raises `KeyboardInterrupt` if an interrupt
    was lost: Python drops exceptions that are raised during garbage collection.
    """
    is_late = time.monotonic() + longest_step_seconds > _ends_at
    states = collectives.all_gather((_interrupted, _requested_by or (_LIMIT if is_late else None)))
    if any(interrupted for interrupted, _ in states):
        raise KeyboardInterrupt
    return next((reason for _, reason in states if reason is not None), None)


def _request_stop(signal_number: int, _: FrameType | None) -> None:
    global _requested_by
    is_first_request = _requested_by is None
    _requested_by = _requested_by or (_LIMIT if signal_number == signal.SIGALRM else signal.Signals(signal_number).name)
    if is_first_request and not _deferred:
        raise StoppedError(f"stopped by {_requested_by}")


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    global _interrupted
    _interrupted = True
    raise KeyboardInterrupt
