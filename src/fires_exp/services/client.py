"""One request to a service: sending it, classifying failures, retrying."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2

from fires_exp.config.services import ServiceConfig
from fires_exp.errors import ConfigError, ServiceError
from fires_exp.services.budget import Budget
from fires_exp.services.messages import NO_USAGE, ChatRequest, ChatResponse, Refusal
from fires_exp.services.rate_limit import RateLimiter
from fires_exp.services.responses import MalformedResponseError, error_text, parse_response
from fires_exp.services.wire_format import max_usage, request_body

log = logging.getLogger("fires_exp.services")

RETRIED_STATUSES = {408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529}
REFUSAL_STATUSES = {400, 413, 415, 422}  # this request is rejected, another may be accepted


class NoResponseError(Exception):
    """All tries failed; the message is the failure of the last one."""


class _RetryableError(Exception):
    """One try failed. `wait_seconds` is the wait that the service asks for, None where it names none; `may_be_billed` is True
    where the service may have processed the request."""

    def __init__(self, problem: str, *, may_be_billed: bool, wait_seconds: float | None = None) -> None:
        super().__init__(problem)
        self.may_be_billed = may_be_billed
        self.wait_seconds = wait_seconds


class ServiceClient:
    """Sends requests to one service within its rate limit and budget. Thread-safe."""

    def __init__(self, config: ServiceConfig, budget: Budget, cancelled: threading.Event) -> None:
        self._config = config
        self._budget = budget
        self._rate_limiter = RateLimiter(config.requests_per_minute, cancelled)
        self._retry_logged = threading.Lock()  # acquired by the first retry and never released
        self._api_key = api_key(config)
        headers = {"Authorization": f"Bearer {self._api_key}"} if self._api_key else {}
        self._http = httpx2.Client(headers=headers, timeout=config.timeout_seconds, limits=httpx2.Limits())
        self._url = f"{(config.base_url or '').rstrip('/')}/chat/completions"

    def close(self) -> None:
        self._http.close()

    def complete(self, request: ChatRequest) -> ChatResponse | Refusal:
        """The response to a request. Raises `NoResponseError` when all tries failed, `ServiceError` for a failure that every
        other request would meet too, such as a wrong key."""
        body = request_body(request, self._config)
        usage_limit = max_usage(request, self._config)
        self._budget.reserve(usage_limit)
        try:
            for attempt in range(self._config.retries + 1):
                self._rate_limiter.wait()
                self._budget.add_request()
                try:
                    response = self._send(body)
                except _RetryableError as problem:
                    if problem.may_be_billed:
                        self._budget.add_cost(usage_limit)
                    if attempt == self._config.retries:
                        raise NoResponseError(str(problem)) from None
                    self._log_first_retry(request, problem)
                    self._wait_before_retry(problem, attempt)
                else:
                    self._budget.add_cost(response.usage)
                    return response
            raise AssertionError
        finally:
            self._budget.release(usage_limit)

    def _log_first_retry(self, request: ChatRequest, problem: _RetryableError) -> None:
        """With a wrong address, all tries together would take a minute without any output."""
        if self._retry_logged.acquire(blocking=False):
            log.warning("%s: %s; such failures are retried up to %d times", request.id, problem, self._config.retries)

    def _wait_before_retry(self, problem: _RetryableError, attempt: int) -> None:
        limit = self._config.max_wait_seconds
        if problem.wait_seconds is None:
            jitter = random.uniform(0.5, 1.5)  # noqa: S311
            self._rate_limiter.sleep(min(limit, self._config.backoff_seconds * 2**attempt * jitter))
        elif problem.wait_seconds > limit:
            raise NoResponseError(
                f"{problem}; the service demands a wait of {problem.wait_seconds:.0f} s, more than "
                f"{self._config.GROUP}.max_wait_seconds={limit:g}"
            )
        else:
            self._rate_limiter.pause(problem.wait_seconds)

    def _send(self, body: Mapping[str, object]) -> ChatResponse | Refusal:
        started = time.monotonic()
        try:
            status, headers, content = self._post(body, started + self._config.timeout_seconds)
        except httpx2.TimeoutException:
            raise _RetryableError(f"no response within {self._config.timeout_seconds:g} s", may_be_billed=True) from None
        except httpx2.ConnectError as error:
            raise _RetryableError(f"cannot connect to {self._url}: {self._redacted(str(error))}", may_be_billed=False) from None
        except httpx2.TransportError as error:
            raise _RetryableError(f"the connection broke: {self._redacted(str(error))}", may_be_billed=True) from None
        error_message = self._redacted(error_text(content))
        if status == 200:
            try:
                return parse_response(content, time.monotonic() - started)
            except MalformedResponseError as error:
                raise _RetryableError(self._redacted(str(error)), may_be_billed=True) from None
        if status in RETRIED_STATUSES and "insufficient_quota" not in content.decode("utf-8", "replace"):
            wait_seconds = parse_retry_after(headers.get("retry-after"))
            raise _RetryableError(f"status {status}: {error_message}", may_be_billed=False, wait_seconds=wait_seconds)
        if status in REFUSAL_STATUSES:
            return Refusal(reason=f"status {status}: {error_message}", usage=NO_USAGE)
        raise ServiceError(f"{self._url}, {self._config.model}: status {status}: {error_message}{self._remedy(status)}")

    def _post(self, body: Mapping[str, object], deadline: float) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body. The library's timeout restarts with every byte, so a service that sends a byte now and then
        would block the run; `deadline` bounds the whole response."""
        with self._http.stream("POST", self._url, json=body) as response:
            content = b""
            for chunk in response.iter_bytes():
                content += chunk
                if time.monotonic() > deadline:
                    raise httpx2.ReadTimeout("deadline exceeded", request=response.request)
            return response.status_code, response.headers, content

    def _remedy(self, status: int) -> str:
        group = self._config.GROUP
        if status in (401, 403):
            return f"; check that {group}.api_key_env={self._config.api_key_env or 'null'} holds the key of this service"
        if status in (404, 405):
            return f"; check {group}.model, and {group}.base_url up to and without /chat/completions"
        return ""

    def _redacted(self, text: str) -> str:
        return text.replace(self._api_key, "***") if self._api_key else text


def api_key(config: ServiceConfig) -> str | None:
    """The key from the environment; None for a service without keys. Raises `ConfigError` that names the variable, never its
    value."""
    name = config.api_key_env
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigError(
            f"{config.GROUP}.api_key_env={name}: this environment variable is not set; run export {name}=<key>, or write "
            f"{config.GROUP}.api_key_env=null for a service without keys"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(
            f"{config.GROUP}.api_key_env={name}: its value has spaces or characters other than printable ASCII; export it again"
        )
    return key


def parse_retry_after(header: str | None) -> float | None:
    """Seconds to wait according to a Retry-After header, which holds seconds or a date; None where it holds neither."""
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, ((date if date.tzinfo else date.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
