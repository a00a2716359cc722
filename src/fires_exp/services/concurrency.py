"""Concurrent requests to one service, with cached responses first."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from fires_exp.config.services import ServiceConfig
from fires_exp.errors import ServiceError
from fires_exp.services.budget import Budget
from fires_exp.services.client import NoResponseError, ServiceClient
from fires_exp.services.messages import ChatRequest, ChatResponse, Refusal
from fires_exp.services.response_cache import ResponseCache
from fires_exp.services.wire_format import request_key, response_settings

log = logging.getLogger("fires_exp.services")


class ConcurrentClient:
    """Keeps up to `max_concurrent_requests` requests in flight. A response is stored before it is yielded, so a run that ends for
    any reason loses at most the requests in flight. The budget covers all requests of one client and those that it has counted in
    earlier runs."""

    def __init__(self, config: ServiceConfig, cache: ResponseCache, budget: Budget) -> None:
        self._config = config
        self._cache = cache
        self._budget = budget
        self._consecutive_failures = 0
        for key in budget.counted_keys:
            if (cached := cache.find(key)) is not None:
                budget.add_cached(cached.usage)

    def complete(self, requests: Iterable[ChatRequest]) -> Iterator[tuple[ChatRequest, ChatResponse | Refusal]]:
        """A `ChatBackend`. Requests are generated lazily, so only the images of a few are in memory.

        Raises `ServiceError` at the end if requests have no response; at once after `give_up_after` of them in a row, when the
        budget is used up, or for a failure that every request would meet (a wrong key, an unknown model).
        """
        cancelled = threading.Event()
        client = ServiceClient(self._config, self._budget, cancelled)
        failures: list[str] = []

        def results(futures: Iterable[Future[ChatResponse | Refusal]]) -> Iterator[tuple[ChatRequest, ChatResponse | Refusal]]:
            for future in futures:
                request = in_flight.pop(future)
                try:
                    response = future.result()
                except NoResponseError as error:
                    failures.append(f"{request.id}: {error}")
                    log.warning("%s", failures[-1])
                    self._consecutive_failures += 1
                else:
                    self._consecutive_failures = self._consecutive_failures + 1 if isinstance(response, Refusal) else 0
                    if self._consecutive_failures < self._config.give_up_after:
                        yield request, response
                        continue
                    failures.append(f"{request.id}: {response.reason if isinstance(response, Refusal) else ''}")
                if self._consecutive_failures >= self._config.give_up_after:
                    raise ServiceError(
                        f"{self._consecutive_failures} requests in a row without a response, the last for {failures[-1]}"
                    )

        in_flight: dict[Future[ChatResponse | Refusal], ChatRequest] = {}
        pool = ThreadPoolExecutor(self._config.max_concurrent_requests, thread_name_prefix="service")
        try:
            for request in requests:
                key = request_key(request, response_settings(self._config))
                cached = self._cache.find(key)
                if cached is not None:
                    if self._budget.add_key(key):
                        self._budget.add_cached(cached.usage)
                    yield request, cached
                    continue
                in_flight[pool.submit(self._send_and_store, client, key, request)] = request
                while len(in_flight) >= self._config.max_concurrent_requests:
                    yield from results(wait(in_flight, return_when=FIRST_COMPLETED).done)
            while in_flight:
                yield from results(wait(in_flight, return_when=FIRST_COMPLETED).done)
        finally:
            cancelled.set()
            pool.shutdown(wait=True, cancel_futures=True)
            client.close()
        if failures:
            raise ServiceError(
                f"{len(failures)} requests have no response, the last for {failures[-1]}; run the same command to send them again"
            )

    def _send_and_store(self, client: ServiceClient, key: str, request: ChatRequest) -> ChatResponse | Refusal:
        response = client.complete(request)
        if isinstance(response, ChatResponse) or response.was_billed:
            self._cache.add(key, request.id, response)
            self._budget.add_key(key)
        return response
