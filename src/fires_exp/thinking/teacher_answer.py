"""Strict parsing of a teacher's answer into a thought. A rejection names a reason that the teacher can act on."""

from __future__ import annotations

import re
from dataclasses import dataclass

from fires_exp.data.records import SupportExample
from fires_exp.thinking.aspects import Aspect, ThinkingPlan
from fires_exp.thinking.leakage import leaked_words
from fires_exp.thinking.thought import Thought

NOT_HELPFUL = "Not helpful"
UNKNOWN = "Unknown"

_BY_LABEL = {aspect.label: aspect for aspect in Aspect}
_LINE = re.compile(rf"({'|'.join(_BY_LABEL)}):\s*(.*)")
_LABEL_ANYWHERE = re.compile(rf"\b(?:{'|'.join(_BY_LABEL)}):", re.IGNORECASE)
_MARKUP = re.compile(r"</?\w+>|<\|.*?\|>|\*\*|^#|```", re.MULTILINE)


class InvalidThoughtError(Exception):
    """The reason for rejecting an answer, as one sentence to the teacher: these messages are prompts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeakLimits:
    """See `leakage.leaked_words`."""

    max_words: int
    max_share: float


def parse_teacher_answer(text: str, plan: ThinkingPlan, example: SupportExample, leaks: LeakLimits) -> Thought:
    """The thought of an answer. Raises `InvalidThoughtError`.

    A plan with aspects requires exactly one line for each; "Not helpful" leaves one out of a flexible thought. The strategy is
    always required. A free plan requires prose without aspect names.
    """
    text = text.strip()
    if not text:
        raise InvalidThoughtError("The answer is empty.")
    if match := _MARKUP.search(text):
        raise InvalidThoughtError(f"Write plain text without {match[0]}.")
    thought = Thought(prose=_prose(text)) if plan.kind == "free" else Thought(aspects=_aspects(text, plan))
    history = "\n".join(turn.text for turn in example.history)
    for line in (thought.prose, *thought.aspects.values()):
        words = leaked_words(line, example.reference_response, history, max_words=leaks.max_words, max_share=leaks.max_share)
        if words:
            raise InvalidThoughtError(
                f'"{words}" is taken from the supporter\'s response, which must not show; say what to do, not what to say.'
            )
    return thought


def _prose(text: str) -> str:
    if match := _LABEL_ANYWHERE.search(text):
        raise InvalidThoughtError(f'"{match[0]}" names an aspect; write running sentences without headings.')
    return " ".join(text.split())


def _aspects(text: str, plan: ThinkingPlan) -> dict[Aspect, str]:
    texts: dict[Aspect, str] = {}
    for line in filter(None, map(str.strip, text.split("\n"))):
        match = _LINE.fullmatch(line)
        if match is None:
            raise InvalidThoughtError(f'"{_beginning(line)}" is none of the lines asked for; write those only, each on one line.')
        aspect, words = _BY_LABEL[match[1]], match[2].strip()
        if aspect not in plan.aspects:
            raise InvalidThoughtError(f"{aspect.label} is not asked for; leave its line out.")
        if aspect in texts:
            raise InvalidThoughtError(f"{aspect.label} comes twice; write one line for it.")
        if _LABEL_ANYWHERE.search(words):
            raise InvalidThoughtError(f"The line of {aspect.label} holds another aspect; write each on a line of its own.")
        texts[aspect] = words
    for aspect in plan.aspects:
        if not texts.get(aspect):
            raise InvalidThoughtError(f"The line {aspect.label} is missing or empty.")
    return {aspect: texts[aspect] for aspect in plan.aspects if _is_included(aspect, texts[aspect], plan)}


def _is_included(aspect: Aspect, words: str, plan: ThinkingPlan) -> bool:
    plain = words.lower().strip(" .")
    not_helpful = plain == NOT_HELPFUL.lower()
    if aspect is Aspect.RESPONSE_STRATEGY and (not_helpful or plain in (UNKNOWN.lower(), "none")):
        raise InvalidThoughtError(f"{aspect.label} is always needed; say what the response sets out to do.")
    if not_helpful and plan.kind == "fixed":
        raise InvalidThoughtError(f"Every aspect is needed here; write something for {aspect.label}, or {UNKNOWN}.")
    return not not_helpful


def _beginning(line: str) -> str:
    return line if len(line) <= 60 else line[:57] + "…"
