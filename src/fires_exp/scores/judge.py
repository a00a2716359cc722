"""Pairwise comparison by a model behind a service: each pair is asked in both orders, so that a liking for the first or the
second place cancels out."""

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
# one choice an order, the first text as A and as B; None where the service would not judge
Choices = tuple[Choice | None, Choice | None]

_POINTS: Mapping[Choice | None, float] = {"first": 1.0, "second": 0.0, "tie": 0.5, None: 0.5}
_VERDICT = re.compile(r"\s*(A|B|[Tt]ie)\.?\s*")
_SHOWN = 80  # letters of an answer in a message

log = logging.getLogger("fires_exp.scores")


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two texts for the same moment. `id` names it and is unique among those compared together; `shown` is what came before."""

    id: str
    shown: tuple[str | Image.Image, ...]
    question: str
    first: str
    second: str

    @property
    def in_both_orders(self) -> tuple[ChatRequest, ChatRequest]:
        """The first text as A, then as B."""
        return (
            ChatRequest(id=f"{self.id}/AB", messages=judge_messages(self.shown, self.question, self.first, self.second)),
            ChatRequest(id=f"{self.id}/BA", messages=judge_messages(self.shown, self.question, self.second, self.first)),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PairwiseJudge:
    """Asks for verdicts. `attempts` answers are asked for each question at most."""

    ask: ChatBackend
    attempts: int

    def compare(self, comparisons: Iterable[Comparison]) -> dict[str, Choices]:
        """What was chosen, by the comparison's id. Two equal texts are a tie that nobody is asked about.

        Raises `ServiceError` where a question has no verdict after all attempts, or has no answer.
        """
        choices: dict[str, list[Choice | None]] = {}
        verdicts: dict[str, str | None] = {}

        def questions() -> Iterator[ChatRequest]:
            for one in comparisons:
                equal = in_one_line(one.first) == in_one_line(one.second)
                choices[one.id] = ["tie", "tie"] if equal else []
                if not equal:
                    yield from one.in_both_orders

        pending: Iterable[ChatRequest] = questions()
        for attempt in range(1, self.attempts + 1):
            pending = list(self._rejected(pending, verdicts, last=attempt == self.attempts))
            if not pending:
                break
        for id, chosen in choices.items():
            chosen += [] if chosen else [_chosen(verdicts[f"{id}/AB"], "first"), _chosen(verdicts[f"{id}/BA"], "second")]
        return {id: (chosen[0], chosen[1]) for id, chosen in choices.items()}

    def _rejected(
        self, questions: Iterable[ChatRequest], verdicts: dict[str, str | None], *, last: bool
    ) -> Iterator[ChatRequest]:
        """Notes verdicts; questions whose answer is none come back, with what was wrong."""
        for question, answer in self.ask(questions):
            if isinstance(answer, Refusal):
                log.warning("the judge refuses %s, which counts as a tie: %s", question.id, answer.reason)
                verdicts[question.id] = None
            elif found := _VERDICT.fullmatch(answer.text):
                verdicts[question.id] = found[1]
            elif last:
                raise ServiceError(
                    f"the judge gives no verdict on {question.id} in {self.attempts} answers, the last: "
                    f"{in_one_line(answer.text)[:_SHOWN]!r} ({answer.finish_reason}); choose another model, or raise "
                    "attempts, or max_tokens for one that reasons first"
                )
            else:
                said = ChatMessage(role="assistant", parts=(answer.text,))
                yield ChatRequest(id=question.id, messages=(*question.messages, said, retry_message()))


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceJudge:
    """How responses stand against the reference response, in [0, 1]."""

    judge: PairwiseJudge

    def scores(self, answers: Sequence[tuple[SupportExample, str]]) -> list[float]:
        """Over both orders, the mean of 1 where the response is preferred, 0.5 for a tie and 0 where the reference is. A response
        that several completions of an instance give is judged once; the history is shown without frames."""
        places: dict[tuple[str, str], str] = {}
        comparisons = []
        for example, response in answers:
            if (example.id, in_one_line(response)) not in places:
                comparisons.append(_against_reference(example, response, place=len(places)))
                places[example.id, in_one_line(response)] = comparisons[-1].id
        choices = self.judge.compare(comparisons)
        return [
            sum(_POINTS[choice] for choice in choices[places[example.id, in_one_line(response)]]) / 2
            for example, response in answers
        ]


def estimate_questions(examples: Iterable[SupportExample]) -> Iterator[ChatRequest]:
    """What judging a response to each example would ask, if the response were as long as the reference."""
    for place, example in enumerate(examples):
        yield from _against_reference(example, example.reference_response, place).in_both_orders


def _against_reference(example: SupportExample, response: str, place: int) -> Comparison:
    return Comparison(
        id=f"{example.id}#{place}",
        shown=tuple(history_parts(example.history, [[] for _ in example.history])),
        question=BETTER_RESPONSE,
        first=response,
        second=example.reference_response,
    )


def _chosen(verdict: str | None, if_a: Literal["first", "second"]) -> Choice | None:
    if verdict is None:
        return None
    if verdict.lower() == "tie":
        return "tie"
    return if_a if verdict == "A" else "first" if if_a == "second" else "second"
