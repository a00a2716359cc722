"""Spacing of requests in time."""

from __future__ import annotations

import threading
import time


class CancelledRequestError(Exception):
    """The run is ending, so the request is not sent."""


class RateLimiter:
    """Spaces the starts of requests evenly. Thread-safe. `cancelled` ends every wait."""

    def __init__(self, requests_per_minute: float, cancelled: threading.Event) -> None:
        self._interval_seconds = 60 / requests_per_minute
        self._cancelled = cancelled
        self._lock = threading.Lock()
        self._next_start = time.monotonic()

    def wait(self) -> None:
        """Return when the next request may start. Raises `CancelledRequestError`."""
        with self._lock:
            start = max(time.monotonic(), self._next_start)
            self._next_start = start + self._interval_seconds
        self.sleep(start - time.monotonic())

    def sleep(self, seconds: float) -> None:
        """Raises `CancelledRequestError` as soon as the run ends."""
        if self._cancelled.wait(max(0.0, seconds)):
            raise CancelledRequestError

    def pause(self, seconds: float) -> None:
        """Start no request during the next `seconds`, in any thread."""
        with self._lock:
            self._next_start = max(self._next_start, time.monotonic() + seconds)
