"""Many questions to one service at a time, none that was answered before."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from fires_exp.config.services import ServiceConfig
from fires_exp.errors import ServiceError
from fires_exp.services.asked_keys import Tally
from fires_exp.services.budget import Budget
from fires_exp.services.client import Client, NoAnswerError
from fires_exp.services.messages import Answer, Question, Refusal, asked_of, question_key
from fires_exp.services.response_cache import Ledger

log = logging.getLogger("fires_exp.services")


class Crowd:
    """Asks with `in_flight` requests at a time. An answer is in the ledger before anybody sees it, so whatever ends a run costs
    at most the requests under way. The budget holds for all questions asked through one crowd, and for those that the tally has
    from before."""

    def __init__(self, config: ServiceConfig, ledger: Ledger, tally: Tally) -> None:
        self._config = config
        self._ledger = ledger
        self._tally = tally
        self._budget = Budget(config)
        self._in_a_row = 0  # questions without an answer
        for key in tally.keys:
            if (known := ledger.find(key)) is not None:
                self._budget.known(known.usage)

    def ask(self, questions: Iterable[Question]) -> Iterator[tuple[Question, Answer | Refusal]]:
        """An `Asker`. Questions are made as they are needed, so pictures of a few are in memory at a time.

        Raises `ServiceError` at the end if questions went without an answer, at once after `give_up_after` of them in a row,
        when the budget is used up, or where no question would be answered (a wrong key, an unknown model).
        """
        stop = threading.Event()
        client = Client(self._config, self._budget, stop)
        unanswered: list[str] = []

        def settle(futures: Iterable[Future[Answer | Refusal]]) -> Iterator[tuple[Question, Answer | Refusal]]:
            for future in futures:
                question = under_way.pop(future)
                try:
                    answer = future.result()
                except NoAnswerError as error:
                    unanswered.append(f"{question.id}: {error}")
                    log.warning("%s", unanswered[-1])
                    self._in_a_row += 1
                else:
                    self._in_a_row = self._in_a_row + 1 if isinstance(answer, Refusal) else 0
                    if self._in_a_row < self._config.give_up_after:
                        yield question, answer
                        continue
                    unanswered.append(f"{question.id}: {answer.reason if isinstance(answer, Refusal) else ''}")
                if self._in_a_row >= self._config.give_up_after:
                    raise ServiceError(f"{self._in_a_row} requests in a row without an answer, the last for {unanswered[-1]}")

        under_way: dict[Future[Answer | Refusal], Question] = {}
        pool = ThreadPoolExecutor(self._config.max_concurrent_requests, thread_name_prefix="service")
        try:
            for question in questions:
                key = question_key(question, asked_of(self._config))
                known = self._ledger.find(key)
                if known is not None:
                    if self._tally.add(key):
                        self._budget.known(known.usage)
                    yield question, known
                    continue
                under_way[pool.submit(self._ask_and_keep, client, key, question)] = question
                while len(under_way) >= self._config.max_concurrent_requests:
                    yield from settle(wait(under_way, return_when=FIRST_COMPLETED).done)
            while under_way:
                yield from settle(wait(under_way, return_when=FIRST_COMPLETED).done)
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            client.close()
        if unanswered:
            raise ServiceError(
                f"{len(unanswered)} requests got no answer, the last for {unanswered[-1]}; the same command asks them again"
            )

    def _ask_and_keep(self, client: Client, key: str, question: Question) -> Answer | Refusal:
        answer = client.ask(question)
        if isinstance(answer, Answer) or answer.was_paid:
            self._ledger.add(key, question.id, answer)
            self._tally.add(key)
        return answer


def ledger_path(artifacts: Path, config: ServiceConfig) -> Path:
    """Answers of one model at one service share a file, whichever stage has asked."""
    name = "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in config.model or "")
    host = "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in (config.base_url or "").split("://")[-1])
    return artifacts / "answers" / f"{host}-{name}.jsonl"
