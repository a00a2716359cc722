"""Signs that a policy hacks its reward: what its responses look like, whatever they earn (paper, Appendix E).

A share is over all completions of a step. A malformed completion shows no sign: it earns nothing, so nothing is hacked with it.
Responses are the same where their words are, in lower case and without punctuation.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from fires_exp.config.training import HealthConfig
from fires_exp.data.records import SupportExample
from fires_exp.thinking.aspects import Aspect
from fires_exp.thinking.tags import ParsedCompletion
from fires_exp.thinking.thought import parse_thought

# an instance with the completions that answer it
AnsweredPrompt = tuple[SupportExample, Sequence[ParsedCompletion]]

# "Why not?" stands in a conversation twice without being copied
SHORTEST_COPIED_TURN = 4

# the loggers keep single precision; a number rounded so is the same when it is read back
DECIMALS = 4

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


class Sign(StrEnum):
    """What is logged as `health/<sign>`; the shares rise in a collapse, the two ratios of words fall."""

    UNKNOWN_SITUATION = "unknown_situation"
    REPEATED_IN_GROUP = "repeated_in_group"
    REPEATED_IN_STEP = "repeated_in_step"
    ONE_RESPONSE = "one_response"
    SHORT_QUESTION = "short_question"
    COPIED_HISTORY = "copied_history"
    WORDS_TO_REFERENCE = "words_to_reference"
    WORDS_TO_START = "words_to_start"

    @property
    def logged(self) -> str:
        return f"health/{self.value}"

    @property
    def falls(self) -> bool:
        return self in (Sign.WORDS_TO_REFERENCE, Sign.WORDS_TO_START)


class HealthMonitor:
    """Takes the signs of one step after the other; what it remembers of earlier ones goes through `state`."""

    def __init__(self, config: HealthConfig) -> None:
        self.config = config
        self.history: list[dict[str, float]] = []
        self.window: list[dict[str, list[str]]] = []
        self.first_words: list[float] = []

    def observe(self, answered: Sequence[AnsweredPrompt]) -> dict[str, float]:
        """The step's signs by their logged names, rounded; `history` gets them too. The two ratios of words are there where a
        completion is well-formed, `words_to_start` from the first step after the first `window_steps` such steps."""
        config = self.config
        groups = [_responses(completions) for _, completions in answered]
        step = [response for group in groups for response in group]
        self.window = [*self.window, _by_prompt(answered, groups)][-config.window_steps :]
        signs = {
            Sign.UNKNOWN_SITUATION: _share(answered, lambda _, completion: has_unknown_situation(completion)),
            Sign.REPEATED_IN_GROUP: sum(map(_repeated, groups)) / _count(answered),
            Sign.REPEATED_IN_STEP: _repeated(step) / _count(answered),
            Sign.ONE_RESPONSE: _one_response(self.window),
            Sign.SHORT_QUESTION: _share(
                answered, lambda _, completion: is_short_question(completion.response, config.short_question_words)
            ),
            Sign.COPIED_HISTORY: _share(
                answered, lambda example, completion: copies_history(completion.response, example, config.copied_words)
            ),
        }
        signs |= self._lengths(answered)
        logged = {sign.logged: round(value, DECIMALS) for sign, value in signs.items()}
        self.history.append(logged)
        return logged

    def _lengths(self, answered: Sequence[AnsweredPrompt]) -> dict[Sign, float]:
        pairs = [
            (len(completion.response.split()), len(example.reference_response.split()))
            for example, completions in answered
            for completion in completions
            if completion.well_formed
        ]
        if not pairs:
            return {}
        said, expected = (sum(side) for side in zip(*pairs, strict=True))
        signs = {Sign.WORDS_TO_REFERENCE: said / max(1, expected)}
        if len(self.first_words) < self.config.window_steps:
            self.first_words.append(said / len(pairs))
        else:
            signs[Sign.WORDS_TO_START] = said / len(pairs) / (sum(self.first_words) / len(self.first_words))
        return signs

    def state(self) -> dict[str, Any]:
        """Lists, dicts, texts and numbers only."""
        return {"history": self.history, "window": self.window, "first_words": self.first_words}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.history, self.window, self.first_words = (list(state[name]) for name in ("history", "window", "first_words"))


def has_unknown_situation(completion: ParsedCompletion) -> bool:
    """Whether the thought says "Situation: Unknown"."""
    return parse_thought(completion.thought).status(Aspect.SITUATION) == "unknown"


def is_short_question(response: str, most_words: int) -> bool:
    """At most so many words, split at white space, and a question mark at the end.

    >>> is_short_question("What do you mean?", most_words=6)
    True
    """
    return len(response.split()) <= most_words and response.rstrip().endswith("?")


def copies_history(response: str, example: SupportExample, run_words: int) -> bool:
    """Whether the response holds `run_words` words in a row of one turn of the history, or the whole of a shorter turn; turns
    of fewer than `SHORTEST_COPIED_TURN` words do not count."""
    said = f" {spoken(response)} "
    for turn in example.history:
        tokens = spoken(turn.text).split(" ")
        run = min(run_words, len(tokens))
        if len(tokens) >= SHORTEST_COPIED_TURN and any(
            f" {' '.join(tokens[start : start + run])} " in said for start in range(len(tokens) - run + 1)
        ):
            return True
    return False


def spoken(text: str) -> str:
    """The words of a text, in lower case, without punctuation, one space between.

    >>> spoken("Oh … what do YOU mean?!")
    'oh what do you mean'
    """
    return " ".join(_WORD.findall(text.lower().replace("’", "'")))


def _responses(completions: Sequence[ParsedCompletion]) -> list[str]:
    return [spoken(completion.response) for completion in completions if completion.well_formed]


def _count(answered: Sequence[AnsweredPrompt]) -> int:
    return sum(len(completions) for _, completions in answered)


def _share(answered: Sequence[AnsweredPrompt], shows: Callable[[SupportExample, ParsedCompletion], bool]) -> float:
    """Share of all completions that are well-formed and show it."""
    shown = sum(
        completion.well_formed and shows(example, completion) for example, completions in answered for completion in completions
    )
    return shown / _count(answered)


def _repeated(responses: Sequence[str]) -> int:
    """How many of them stand among them more than once."""
    return sum(count for count in Counter(responses).values() if count > 1)


def _by_prompt(answered: Sequence[AnsweredPrompt], groups: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    return {example.id: sorted(set(group)) for (example, _), group in zip(answered, groups, strict=True)}


def _one_response(window: Sequence[Mapping[str, Sequence[str]]]) -> float:
    """The largest share of the window's prompts that one and the same response answers."""
    prompts: dict[str, set[str]] = {}
    for step in window:
        for prompt, responses in step.items():
            prompts.setdefault(prompt, set()).update(responses)
    answers = Counter(response for responses in prompts.values() for response in responses)
    return max(answers.values(), default=0) / len(prompts)
