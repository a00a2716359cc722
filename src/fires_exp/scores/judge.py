"""Pairwise comparison by a judge model behind a service.

Each pair is judged in both orders, so that a preference for the first or the second position cancels out.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from fires_exp.data.records import SupportExample
from fires_exp.errors import ServiceError
from fires_exp.prompts.judge import BETTER_RESPONSE, in_one_line, judge_messages, retry_message
from fires_exp.prompts.templates import history_parts
from fires_exp.services.messages import ChatBackend, ChatMessage, ChatRequest, Refusal

Choice = Literal["first", "second", "tie"]
# one choice per order, with the first text as A and as B; None if the service refused to judge
Choices = tuple[Choice | None, Choice | None]

_POINTS: Mapping[Choice | None, float] = {"first": 1.0, "second": 0.0, "tie": 0.5, None: 0.5}
_VERDICT = re.compile(r"\s*(A|B|[Tt]ie)\.?\s*")
_MAX_QUOTED = 80  # characters of an answer in an error message

log = logging.getLogger("fires_exp.scores")


@dataclass(frozen=True, kw_only=True, slots=True)
class PairwiseComparison:
    """Two texts for the same point of a conversation. `id` is unique among the comparisons of one call; `context` is what came
    before, as texts and frames."""

    id: str
    context: tuple[str | Image.Image, ...]
    question: str
    first: str
    second: str

    @property
    def in_both_orders(self) -> tuple[ChatRequest, ChatRequest]:
        """With the first text as A, then as B."""
        return (
            ChatRequest(id=f"{self.id}/AB", messages=judge_messages(self.context, self.question, self.first, self.second)),
            ChatRequest(id=f"{self.id}/BA", messages=judge_messages(self.context, self.question, self.second, self.first)),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PairwiseJudge:
    """Requests verdicts through `ask`, at most `attempts` times for each comparison and order."""

    ask: ChatBackend
    attempts: int

    def compare(self, comparisons: Iterable[PairwiseComparison]) -> dict[str, Choices]:
        """The choices by comparison id. Two equal texts are a tie without a request.

        Raises `ServiceError` if a request has no verdict after all attempts, or no response.
        """
        choices: dict[str, list[Choice | None]] = {}
        verdicts: dict[str, str | None] = {}

        def requests() -> Iterator[ChatRequest]:
            for comparison in comparisons:
                equal = in_one_line(comparison.first) == in_one_line(comparison.second)
                choices[comparison.id] = ["tie", "tie"] if equal else []
                if not equal:
                    yield from comparison.in_both_orders

        pending: Iterable[ChatRequest] = requests()
        for attempt in range(1, self.attempts + 1):
            pending = list(self._record_verdicts(pending, verdicts, last=attempt == self.attempts))
            if not pending:
                break
        for id, in_orders in choices.items():
            in_orders += [] if in_orders else [_choice(verdicts[f"{id}/AB"], "first"), _choice(verdicts[f"{id}/BA"], "second")]
        return {id: (in_orders[0], in_orders[1]) for id, in_orders in choices.items()}

    def _record_verdicts(
        self, requests: Iterable[ChatRequest], verdicts: dict[str, str | None], *, last: bool
    ) -> Iterator[ChatRequest]:
        """Store each verdict in `verdicts` by request id. Yields the requests to repeat: their response is not a verdict."""
        for request, response in self.ask(requests):
            if isinstance(response, Refusal):
                log.warning("the judge refuses %s, which counts as a tie: %s", request.id, response.reason)
                verdicts[request.id] = None
            elif match := _VERDICT.fullmatch(response.text):
                verdicts[request.id] = match[1]
            elif last:
                raise ServiceError(
                    f"the judge gives no verdict on {request.id} in {self.attempts} answers, the last: "
                    f"{in_one_line(response.text)[:_MAX_QUOTED]!r} ({response.finish_reason}); choose another model, or raise "
                    "attempts, or max_tokens for one that reasons first"
                )
            else:
                reply = ChatMessage(role="assistant", parts=(response.text,))
                yield ChatRequest(id=request.id, messages=(*request.messages, reply, retry_message()))


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceJudge:
    """Scores responses against the reference response, in [0, 1]."""

    judge: PairwiseJudge

    def scores(self, answers: Sequence[tuple[SupportExample, str]]) -> list[float]:
        """The mean over both orders of 1 if the response is preferred, 0.5 for a tie and 0 if the reference is preferred.

        Equal responses to the same instance are judged once. The history is given without frames.
        """
        ids: dict[tuple[str, str], str] = {}
        comparisons = []
        for example, response in answers:
            if (example.id, in_one_line(response)) not in ids:
                comparisons.append(_against_reference(example, response, index=len(ids)))
                ids[example.id, in_one_line(response)] = comparisons[-1].id
        choices = self.judge.compare(comparisons)
        id_of = [ids[example.id, in_one_line(response)] for example, response in answers]
        return [sum(_POINTS[choice] for choice in choices[id]) / 2 for id in id_of]


def estimated_requests(examples: Iterable[SupportExample]) -> Iterator[ChatRequest]:
    """The requests for judging one response per example, with the reference in place of the response."""
    for index, example in enumerate(examples):
        yield from _against_reference(example, example.reference_response, index).in_both_orders


def _against_reference(example: SupportExample, response: str, index: int) -> PairwiseComparison:
    return PairwiseComparison(
        id=f"{example.id}#{index}",
        context=tuple(history_parts(example.history, [[] for _ in example.history])),
        question=BETTER_RESPONSE,
        first=response,
        second=example.reference_response,
    )


def _choice(verdict: str | None, if_a: Literal["first", "second"]) -> Choice | None:
    if verdict is None:
        return None
    if verdict.lower() == "tie":
        return "tie"
    return if_a if verdict == "A" else "first" if if_a == "second" else "second"
