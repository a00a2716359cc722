"""What a run would ask, without asking: an estimate of its cost, or the requests as files of a batch service."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from fires_exp.config.services import ServiceConfig
from fires_exp.errors import ServiceError
from fires_exp.services.budget import Budget
from fires_exp.services.messages import Answer, Question, Refusal, asked_of, frames_in, most_usage, question_key, request_body
from fires_exp.services.response_cache import Ledger
from fires_exp.services.responses import BrokenAnswerError, in_one_line, read_answer
from fires_exp.storage.json_input import parse_json


class Rehearsal:
    """An asker that knows the ledger's answers and hands every other question to `note`, with its key."""

    def __init__(self, config: ServiceConfig, ledger: Ledger, note: Callable[[str, Question], None]) -> None:
        self._asked_of = asked_of(config)
        self._ledger = ledger
        self._note = note
        self.answered = 0

    def ask(self, questions: Iterable[Question]) -> Iterator[tuple[Question, Answer | Refusal]]:
        for question in questions:
            key = question_key(question, self._asked_of)
            known = self._ledger.find(key)
            if known is None:
                self._note(key, question)
            else:
                self.answered += 1
                yield question, known


class Estimate:
    """Adds up what questions cost at most; answers that turn out wrong are asked again and cost more."""

    def __init__(self, config: ServiceConfig) -> None:
        self._config = config
        self.requests = self.frames = self.prompt_tokens = self.completion_tokens = 0
        self.cost = 0.0

    def note(self, key: str, question: Question) -> None:
        most = most_usage(question, self._config)
        self.requests += 1
        self.frames += frames_in(question)
        self.prompt_tokens += most.prompt_tokens
        self.completion_tokens += most.completion_tokens
        self.cost += Budget(self._config).price(most)

    def in_words(self, answered: int) -> str:
        config = self._config
        priced = config.price_prompt is not None and config.price_completion is not None
        lines = [
            f"{self.requests} requests to {config.model} at {config.base_url} ({answered} answers are there already)",
            f"{self.prompt_tokens} prompt tokens, about, of which {self.frames} frames take {self.frames * config.frame_tokens}",
            f"{self.completion_tokens} answer tokens at most",
            f"{self.cost:.2f} at most if none is asked again, by {config.GROUP}.price_prompt and {config.GROUP}.price_completion"
            if priced
            else f"cost unknown: write {config.GROUP}.price_prompt and {config.GROUP}.price_completion",
        ]
        return "\n".join(lines)


def batch_line(key: str, question: Question, config: ServiceConfig) -> str:
    """A request as a line of a batch service's file."""
    facts = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": request_body(question, config)}
    return json.dumps(facts, ensure_ascii=False) + "\n"


def read_batch_results(path: Path, ledger: Ledger) -> int:
    """Put a batch service's answers into the ledger; how many were new. A request that failed there is left out: it is asked
    again. Raises `ServiceError` that names a line which is no result."""
    if not path.is_file():
        raise ServiceError(f"no such file {path}; write the results file of a batch service")
    count = 0
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = parse_json(line)
                key, response = row["custom_id"], row["response"]
                if response is None or response["status_code"] != 200 or ledger.find(key) is not None:
                    continue
                answer = read_answer(json.dumps(response["body"]).encode(), 0.0)
            except (ValueError, KeyError, TypeError, BrokenAnswerError):
                said = in_one_line(line.encode())
                raise ServiceError(f"{path}:{number}: not a result of a batch service: {said}; mend or delete the line") from None
            if isinstance(answer, Answer) or answer.was_paid:
                ledger.add(key, "", answer)
                count += 1
    return count
