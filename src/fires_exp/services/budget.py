"""The budget of a stage, in requests and in money, over all runs of that stage."""

from __future__ import annotations

import threading
from pathlib import Path

from fires_exp.config.services import ServiceConfig
from fires_exp.errors import ServiceError
from fires_exp.services.messages import Usage


def cost(usage: Usage, config: ServiceConfig) -> float:
    """In the currency of the configured prices; an unknown price counts as 0."""
    prompt, completion = config.price_prompt or 0.0, config.price_completion or 0.0
    return (prompt * usage.prompt_tokens + completion * usage.completion_tokens) / 1e6


class Budget:
    """Requests and money spent, and money reserved by requests in flight. Thread-safe.

    A cached response counts too, once per key: the budget limits a stage however often the stage is started. A stage whose next
    run sends other requests than its first, such as GRPO after a checkpoint, keeps the counted keys in `key_file`, one a line.
    """

    def __init__(self, config: ServiceConfig, key_file: Path | None) -> None:
        self._config = config
        self._lock = threading.Condition()
        self._reserved_cost = 0.0
        self._in_flight = 0
        self._requests = 0
        self._cost = 0.0
        self._key_file = key_file
        self._counted_keys: set[str] = set()
        if key_file is not None and key_file.is_file():
            lines, newline, _ = key_file.read_text(encoding="ascii").rpartition("\n")  # a kill may leave a partial line
            key_file.write_text(lines + newline, encoding="ascii")
            self._counted_keys.update(lines.split())

    @property
    def counted_keys(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._counted_keys)

    def reserve(self, max_usage: Usage) -> None:
        """Reserve the most that a request may cost. This is mostly more than it costs in the end, so where it exceeds the rest of
        the budget, wait for requests in flight. Raises `ServiceError` where none is in flight and the request may exceed it."""
        request_cost, limit = cost(max_usage, self._config), self._config.max_cost
        with self._lock:
            while (
                limit is not None
                and self._in_flight
                and self._cost + self._reserved_cost + request_cost > limit >= self._cost + request_cost
            ):
                self._lock.wait()
            if limit is not None and self._cost + self._reserved_cost + request_cost > limit:
                raise ServiceError(
                    f"{self._config.GROUP}.max_cost={limit} is used up: {self._cost:.4f} spent in {self._requests} requests, and "
                    f"the next may cost {request_cost:.4f}; raise it and run the same command again"
                )
            self._reserved_cost += request_cost
            self._in_flight += 1

    def release(self, max_usage: Usage) -> None:
        """Undo `reserve`, when the request is over."""
        with self._lock:
            self._in_flight -= 1
            self._reserved_cost = self._reserved_cost - cost(max_usage, self._config) if self._in_flight else 0.0
            self._lock.notify_all()

    def add_request(self) -> None:
        """Count a request that is about to be sent. Raises `ServiceError` where the budget has none left."""
        limit = self._config.max_requests
        with self._lock:
            if limit is not None and self._requests >= limit:
                raise ServiceError(
                    f"{self._config.GROUP}.max_requests={limit} requests are used up; raise it and run the same command again"
                )
            self._requests += 1

    def add_cost(self, usage: Usage) -> None:
        """Count the cost of a request that was sent."""
        with self._lock:
            self._cost += cost(usage, self._config)

    def add_cached(self, usage: Usage) -> None:
        """Count a response that an earlier run paid for."""
        with self._lock:
            self._requests += 1
            self._cost += cost(usage, self._config)

    def add_key(self, key: str) -> bool:
        """Record that the response with this key is counted; False where it already was."""
        with self._lock:
            if key in self._counted_keys:
                return False
            if self._key_file is not None:
                with self._key_file.open("a", encoding="ascii") as file:
                    file.write(key + "\n")
            self._counted_keys.add(key)
            return True
