"""One question to one service: the request, what may go wrong with it, and trying again."""

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
from fires_exp.services.budget import Budget, Pace
from fires_exp.services.messages import NOTHING, Answer, Question, Refusal, most_usage, request_body
from fires_exp.services.responses import BrokenAnswerError, in_one_line, read_answer

log = logging.getLogger("fires_exp.services")

TRY_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529}
NOT_THIS_QUESTION = {400, 413, 415, 422}


class NoAnswerError(Exception):
    """Tried as often as allowed; says what came last."""


class _TryAgainError(Exception):
    """One try failed. `wait_seconds` is what the service asks for, None where it says nothing; `paid` is whether it may have
    worked on the question all the same."""

    def __init__(self, problem: str, *, paid: bool, wait_seconds: float | None = None) -> None:
        super().__init__(problem)
        self.paid = paid
        self.wait_seconds = wait_seconds


class Client:
    """Asks one service, within pace and budget. Threads may share it."""

    def __init__(self, config: ServiceConfig, budget: Budget, stop: threading.Event) -> None:
        self._config = config
        self._budget = budget
        self._pace = Pace(config.requests_per_minute, stop)
        self._told = threading.Lock()  # taken once
        self._key = api_key(config)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._http = httpx2.Client(headers=headers, timeout=config.timeout_seconds, limits=httpx2.Limits())
        self._url = f"{(config.base_url or '').rstrip('/')}/chat/completions"

    def close(self) -> None:
        self._http.close()

    def ask(self, question: Question) -> Answer | Refusal:
        """Raises `NoAnswerError` when all tries failed, `ServiceError` where no question would fare better."""
        body = request_body(question, self._config)
        most = most_usage(question, self._config)
        self._budget.hold(most)
        try:
            for tried in range(self._config.retries + 1):
                self._pace.wait()
                self._budget.send()
                try:
                    answer = self._try(body)
                except _TryAgainError as problem:
                    if problem.paid:
                        self._budget.spend(most)
                    if tried == self._config.retries:
                        raise NoAnswerError(str(problem)) from None
                    self._tell(question, problem)
                    self._wait(problem, tried)
                else:
                    self._budget.spend(answer.usage)
                    return answer
            raise AssertionError
        finally:
            self._budget.release(most)

    def _tell(self, question: Question, problem: _TryAgainError) -> None:
        """The first time that something is tried again: with a wrong address all tries together take a minute of silence."""
        if self._told.acquire(blocking=False):
            log.warning("%s: %s; what fails so is tried again, up to %d times", question.id, problem, self._config.retries)

    def _wait(self, problem: _TryAgainError, tried: int) -> None:
        most = self._config.max_wait_seconds
        if problem.wait_seconds is None:
            jitter = random.uniform(0.5, 1.5)  # noqa: S311
            self._pace.sleep(min(most, self._config.backoff_seconds * 2**tried * jitter))
        elif problem.wait_seconds > most:
            asked = f"the service asks to wait {problem.wait_seconds:.0f} s"
            raise NoAnswerError(f"{problem}; {asked}, more than {self._config.GROUP}.max_wait_seconds={most:g}")
        else:
            self._pace.hold(problem.wait_seconds)

    def _try(self, body: Mapping[str, object]) -> Answer | Refusal:
        started = time.monotonic()
        try:
            status, headers, content = self._post(body, started + self._config.timeout_seconds)
        except httpx2.TimeoutException:
            raise _TryAgainError(f"no answer within {self._config.timeout_seconds:g} s", paid=True) from None
        except httpx2.ConnectError as error:
            raise _TryAgainError(f"cannot connect to {self._url}: {self._safe(str(error))}", paid=False) from None
        except httpx2.TransportError as error:
            raise _TryAgainError(f"the connection broke: {self._safe(str(error))}", paid=True) from None
        said = self._safe(in_one_line(content))
        if status == 200:
            try:
                return read_answer(content, time.monotonic() - started)
            except BrokenAnswerError as error:
                raise _TryAgainError(self._safe(str(error)), paid=True) from None
        if status in TRY_AGAIN and "insufficient_quota" not in content.decode("utf-8", "replace"):
            raise _TryAgainError(f"status {status}: {said}", paid=False, wait_seconds=retry_after(headers.get("retry-after")))
        if status in NOT_THIS_QUESTION:
            return Refusal(reason=f"status {status}: {said}", usage=NOTHING)
        raise ServiceError(f"{self._url} answers {self._config.model} with status {status}: {said}{self._remedy(status)}")

    def _post(self, body: Mapping[str, object], deadline: float) -> tuple[int, Mapping[str, str], bytes]:
        """The library's time-out starts anew with every byte; a service that dribbles must not hold a run up."""
        with self._http.stream("POST", self._url, json=body) as response:
            content = b""
            for piece in response.iter_bytes():
                content += piece
                if time.monotonic() > deadline:
                    raise httpx2.ReadTimeout("too slow", request=response.request)
            return response.status_code, response.headers, content

    def _remedy(self, status: int) -> str:
        group = self._config.GROUP
        if status in (401, 403):
            return f"; is the key the one of this service? {group}.api_key_env={self._config.api_key_env or 'null'}"
        if status in (404, 405):
            return f"; check {group}.model, and {group}.base_url up to and without /chat/completions"
        return ""

    def _safe(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


def api_key(config: ServiceConfig) -> str | None:
    """The key from the environment, None where none is wanted. Raises `ConfigError` that names the variable, never its value."""
    name = config.api_key_env
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigError(
            f"{config.GROUP}.api_key_env={name}: there is no such variable in the environment; export {name}=<key>, "
            f"or write {config.GROUP}.api_key_env=null for a service without keys"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{config.GROUP}.api_key_env={name}: its value holds characters that no key has; export it again")
    return key


def retry_after(header: str | None) -> float | None:
    """Seconds to wait by a Retry-After header, which holds seconds or a date; None where it says nothing."""
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
