"""How fast and how much: an even pace for requests, and a budget in requests and in money. Safe to share among threads."""

from __future__ import annotations

import threading
import time

from fires_exp.config.services import ServiceConfig
from fires_exp.errors import ServiceError
from fires_exp.services.messages import Usage


class StoppedError(Exception):
    """The run is ending; nothing more is to be sent."""


class Pace:
    """Evenly spaced starts of requests; a service that is too busy holds all of them back."""

    def __init__(self, requests_per_minute: float, stop: threading.Event) -> None:
        self._gap = 60 / requests_per_minute
        self._stop = stop
        self._lock = threading.Lock()
        self._next = time.monotonic()

    def wait(self) -> None:
        """Return when the next request may start. Raises `StoppedError`."""
        with self._lock:
            start = max(time.monotonic(), self._next)
            self._next = start + self._gap
        self.sleep(start - time.monotonic())

    def sleep(self, seconds: float) -> None:
        """Raises `StoppedError` as soon as the run ends."""
        if self._stop.wait(max(0.0, seconds)):
            raise StoppedError

    def hold(self, seconds: float) -> None:
        """No new start for so long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


class Budget:
    """What has been spent, and what questions under way may still cost. An answer that was there already counts too: the budget
    is for the whole of what is asked, however often the run was started."""

    def __init__(self, config: ServiceConfig) -> None:
        self._config = config
        self._lock = threading.Condition()
        self._held = 0.0
        self._under_way = 0
        self.requests = 0
        self.cost = 0.0

    def hold(self, most: Usage) -> None:
        """Set aside what a question may cost. What is set aside is mostly more than what is spent in the end, so where it is the
        rest of the budget, wait for questions under way. Raises `ServiceError` where none is and the next could go over."""
        price, limit = self.price(most), self._config.max_cost
        with self._lock:
            while limit is not None and self._under_way and self.cost + self._held + price > limit >= self.cost + price:
                self._lock.wait()
            if limit is not None and self.cost + self._held + price > limit:
                raise ServiceError(
                    f"{self._config.GROUP}.max_cost={limit} is used up: {self.cost:.4f} spent in {self.requests} requests, and "
                    f"the next may cost {price:.4f}; the same command with a larger budget goes on"
                )
            self._held += price
            self._under_way += 1

    def release(self, most: Usage) -> None:
        with self._lock:
            self._under_way -= 1
            self._held = self._held - self.price(most) if self._under_way else 0.0
            self._lock.notify_all()

    def send(self) -> None:
        """Count a request. Raises `ServiceError` where there may be no more."""
        limit = self._config.max_requests
        with self._lock:
            if limit is not None and self.requests >= limit:
                raise ServiceError(
                    f"{self._config.GROUP}.max_requests={limit} requests are used up; "
                    "the same command with a larger budget goes on"
                )
            self.requests += 1

    def known(self, usage: Usage) -> None:
        """Count an answer that an earlier run paid for."""
        with self._lock:
            self.requests += 1
            self.cost += self.price(usage)

    def spend(self, usage: Usage) -> None:
        with self._lock:
            self.cost += self.price(usage)

    def price(self, usage: Usage) -> float:
        """In the currency of the configured prices; 0 where they are not known."""
        prompt, completion = self._config.price_prompt or 0.0, self._config.price_completion or 0.0
        return (prompt * usage.prompt_tokens + completion * usage.completion_tokens) / 1e6
