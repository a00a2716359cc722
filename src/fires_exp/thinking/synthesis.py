"""Thoughts for many instances: request them from a teacher, check them, and repeat rejected requests with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from fires_exp.data.records import SupportExample
from fires_exp.services.messages import NO_USAGE, ChatBackend, ChatMessage, ChatRequest, ChatResponse, Refusal, Usage
from fires_exp.thinking.aspects import ThinkingPlan
from fires_exp.thinking.bank import BankedThought
from fires_exp.thinking.rule_teacher import TEACHER, rules_hash, thought_by_rules
from fires_exp.thinking.teacher_answer import InvalidThoughtError
from fires_exp.thinking.thought import Thought


@dataclass(frozen=True, kw_only=True, slots=True)
class SetAside:
    """An instance without a thought: the last problem, and every rejected answer with its problem."""

    example_id: str
    reason: str
    answers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Teacher:
    """A model that writes thoughts. `messages` builds the chat of an instance, `parse` parses an answer or raises
    `InvalidThoughtError`, `retry_message` puts the reason to the model. An instance gets at most `attempts` answers."""

    name: str
    plan: ThinkingPlan
    prompt_hash: str
    messages: Callable[[SupportExample], tuple[ChatMessage, ...]]
    parse: Callable[[str, SupportExample], Thought]
    retry_message: Callable[[str], ChatMessage]
    attempts: int


def thoughts_by_rules(examples: Iterable[SupportExample], plan: ThinkingPlan) -> Iterator[BankedThought]:
    """One thought per instance, in order. `plan` must think."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    for example in examples:
        yield BankedThought(
            example_id=example.id,
            plan=plan.kind,
            teacher=TEACHER,
            model="",
            prompt_hash=rules_hash(),
            created=now,
            seconds=0.0,
            usage=NO_USAGE,
            thought=thought_by_rules(example, plan),
        )


def thoughts_by_model(
    teacher: Teacher, backend: ChatBackend, examples: Sequence[SupportExample]
) -> Iterator[BankedThought | SetAside]:
    """The result of each instance, in order of completion: one round over all instances, then rounds over those whose answer was
    rejected. An instance whose request has no response is left out."""
    by_id = {example.id: example for example in examples}
    answers: dict[str, list[tuple[ChatResponse, str]]] = {}
    pending = list(by_id)
    for _ in range(teacher.attempts):
        rejected = []
        for request, answer in backend(_request(teacher, by_id[id], answers.get(id, [])) for id in pending):
            id, rejected_answers = request.id, answers.setdefault(request.id, [])
            if isinstance(answer, Refusal):
                yield SetAside(example_id=id, reason=answer.reason, answers=_texts(rejected_answers))
                continue
            try:
                thought = _parse(teacher, answer, by_id[id])
            except InvalidThoughtError as problem:
                rejected_answers.append((answer, str(problem)))
                rejected.append(id)
            else:
                yield _banked(teacher, id, thought, [*(earlier for earlier, _ in rejected_answers), answer])
        rejected_ids = set(rejected)
        pending = [id for id in pending if id in rejected_ids]
    for id in pending:
        yield SetAside(example_id=id, reason=answers[id][-1][1], answers=_texts(answers[id]))


def _request(teacher: Teacher, example: SupportExample, rejected_answers: Sequence[tuple[ChatResponse, str]]) -> ChatRequest:
    messages = list(teacher.messages(example))
    for answer, problem in rejected_answers:
        messages += [ChatMessage(role="assistant", parts=(answer.text,)), teacher.retry_message(problem)]
    return ChatRequest(id=example.id, messages=tuple(messages))


def _parse(teacher: Teacher, answer: ChatResponse, example: SupportExample) -> Thought:
    if answer.finish_reason == "length":
        raise InvalidThoughtError("The answer was cut off for its length; be much briefer.")
    return teacher.parse(answer.text, example)


def _banked(teacher: Teacher, id: str, thought: Thought, answers: Sequence[ChatResponse]) -> BankedThought:
    return BankedThought(
        example_id=id,
        plan=teacher.plan.kind,
        teacher=teacher.name,
        model=answers[-1].model,
        prompt_hash=teacher.prompt_hash,
        created=answers[-1].created,
        seconds=round(sum(answer.seconds for answer in answers), 3),
        usage=Usage(
            prompt_tokens=sum(answer.usage.prompt_tokens for answer in answers),
            completion_tokens=sum(answer.usage.completion_tokens for answer in answers),
        ),
        thought=thought,
    )


def _texts(answers: Sequence[tuple[ChatResponse, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((answer.text, problem) for answer, problem in answers)
