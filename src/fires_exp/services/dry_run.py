"""Requests that a run would send, without sending them, and an estimate of their cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from fires_exp.config.services import ServiceConfig
from fires_exp.services.budget import cost
from fires_exp.services.messages import ChatRequest, ChatResponse, Refusal
from fires_exp.services.response_cache import ResponseCache
from fires_exp.services.wire_format import count_images, max_usage, request_key, response_settings


class DryRun:
    """A `ChatBackend` (`complete`) that yields cached responses and passes every other request to `record`, with its key."""

    def __init__(self, config: ServiceConfig, cache: ResponseCache, record: Callable[[str, ChatRequest], None]) -> None:
        self._settings = response_settings(config)
        self._cache = cache
        self._record = record
        self.cached_count = 0

    def complete(self, requests: Iterable[ChatRequest]) -> Iterator[tuple[ChatRequest, ChatResponse | Refusal]]:
        for request in requests:
            key = request_key(request, self._settings)
            cached = self._cache.find(key)
            if cached is None:
                self._record(key, request)
            else:
                self.cached_count += 1
                yield request, cached


class CostEstimate:
    """Sums up the most that requests may cost. A response that the caller rejects is requested again, which costs more."""

    def __init__(self, config: ServiceConfig) -> None:
        self._config = config
        self._requests = self._images = self._prompt_tokens = self._completion_tokens = 0
        self._cost = 0.0

    def add(self, key: str, request: ChatRequest) -> None:
        """`record` of a `DryRun`."""
        usage = max_usage(request, self._config)
        self._requests += 1
        self._images += count_images(request)
        self._prompt_tokens += usage.prompt_tokens
        self._completion_tokens += usage.completion_tokens
        self._cost += cost(usage, self._config)

    def as_text(self, cached_count: int) -> str:
        config = self._config
        has_prices = config.price_prompt is not None and config.price_completion is not None
        lines = [
            f"{self._requests} requests to {config.model} at {config.base_url} ({cached_count} responses are cached)",
            f"about {self._prompt_tokens} prompt tokens, {self._images * config.frame_tokens} of them for {self._images} frames",
            f"at most {self._completion_tokens} completion tokens",
            f"cost at most {self._cost:.2f} if no request is repeated, by {config.GROUP}.price_prompt and "
            f"{config.GROUP}.price_completion"
            if has_prices
            else f"cost unknown: write {config.GROUP}.price_prompt and {config.GROUP}.price_completion",
        ]
        return "\n".join(lines)
