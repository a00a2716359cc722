"""Thoughts for many instances: ask the teacher, check, ask again with what was wrong, keep who said what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from fires_exp.data.records import SupportExample
from fires_exp.services.messages import NO_USAGE, ChatBackend, ChatMessage, ChatRequest, ChatResponse, Refusal, Usage
from fires_exp.thinking.aspects import ThinkingPlan
from fires_exp.thinking.bank import BankedThought
from fires_exp.thinking.rule_teacher import TEACHER, annotate, rules_hash
from fires_exp.thinking.teacher_answer import AnswerError
from fires_exp.thinking.thought import Thought


@dataclass(frozen=True, kw_only=True, slots=True)
class SetAside:
    """An instance without a thought: what was wrong in the end, and every answer with what was wrong with it."""

    example_id: str
    reason: str
    answers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Teacher:
    """Who writes thoughts by answering questions, and how: `first` puts an instance to it, `read` reads an answer or raises
    `AnswerError`, `once_more` says so to it. `attempts` answers are asked for an instance at most."""

    name: str
    plan: ThinkingPlan
    prompt_hash: str
    first: Callable[[SupportExample], tuple[ChatMessage, ...]]
    read: Callable[[str, SupportExample], Thought]
    once_more: Callable[[str], ChatMessage]
    attempts: int


def synthesize(examples: Iterable[SupportExample], plan: ThinkingPlan) -> Iterator[BankedThought]:
    """One thought an instance by rules, in order. `plan` must think."""
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
            thought=annotate(example, plan),
        )


def ask_teacher(teacher: Teacher, ask: ChatBackend, examples: Sequence[SupportExample]) -> Iterator[BankedThought | SetAside]:
    """What each instance came to, as it is known. All instances are asked, then those again whose answer was no thought.

    An instance whose question `ask` leaves out is left out here.
    """
    by_id = {example.id: example for example in examples}
    answers: dict[str, list[tuple[ChatResponse, str]]] = {}
    pending = list(by_id)
    for _ in range(teacher.attempts):
        rejected = []
        for question, answer in ask(_question(teacher, by_id[id], answers.get(id, [])) for id in pending):
            id, earlier = question.id, answers.setdefault(question.id, [])
            if isinstance(answer, Refusal):
                yield SetAside(example_id=id, reason=answer.reason, answers=_told(earlier))
                continue
            try:
                thought = _read(teacher, answer, by_id[id])
            except AnswerError as problem:
                earlier.append((answer, str(problem)))
                rejected.append(id)
            else:
                yield _banked(teacher, id, thought, [*(one for one, _ in earlier), answer])
        known = set(rejected)
        pending = [id for id in pending if id in known]
    for id in pending:
        yield SetAside(example_id=id, reason=answers[id][-1][1], answers=_told(answers[id]))


def _question(teacher: Teacher, example: SupportExample, earlier: Sequence[tuple[ChatResponse, str]]) -> ChatRequest:
    messages = list(teacher.first(example))
    for answer, problem in earlier:
        messages += [ChatMessage(role="assistant", parts=(answer.text,)), teacher.once_more(problem)]
    return ChatRequest(id=example.id, messages=tuple(messages))


def _read(teacher: Teacher, answer: ChatResponse, example: SupportExample) -> Thought:
    if answer.finish_reason == "length":
        raise AnswerError("The answer was cut off for its length; be much briefer.")
    return teacher.read(answer.text, example)


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


def _told(answers: Sequence[tuple[ChatResponse, str]]) -> tuple[tuple[str, str], ...]:
    return tuple((answer.text, problem) for answer, problem in answers)
