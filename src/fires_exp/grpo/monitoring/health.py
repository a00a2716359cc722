"""Signs of reward hacking, read from the sampled responses and not from their rewards (paper, Appendix E).

Shares are over all completions of a step. A malformed completion never counts as a sign, because its reward is 0. Two responses
are equal if their words are, in lower case and without punctuation.
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

# an example with the completions of its group
ExampleCompletions = tuple[SupportExample, Sequence[ParsedCompletion]]

# a turn of fewer words, such as "Why not?", may occur twice in a conversation without being copied
SHORTEST_COPIED_TURN = 4

# loggers store single precision; a number rounded to so many decimals is equal after reading it back
DECIMALS = 4

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


class Sign(StrEnum):
    """A metric, logged as `health/<sign>`. In a collapse the shares rise and the two ratios of word counts fall."""

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
    """Computes the signs of each step. Its memory of earlier steps is saved in checkpoints through `state` and `restore`."""

    def __init__(self, config: HealthConfig) -> None:
        self.config = config
        self.history: list[dict[str, float]] = []
        self.window: list[dict[str, list[str]]] = []
        self.first_words: list[float] = []

    def observe(self, groups: Sequence[ExampleCompletions]) -> dict[str, float]:
        """The rounded signs of a step by their logged names; they are appended to `history`.

        The two ratios of word counts exist only if a completion is well-formed, and `words_to_start` only after the first
        `window_steps` such steps.
        """
        config = self.config
        group_responses = [_normalized_responses(completions) for _, completions in groups]
        step_responses = [response for responses in group_responses for response in responses]
        self.window = [*self.window, _responses_by_example(groups, group_responses)][-config.window_steps :]
        signs = {
            Sign.UNKNOWN_SITUATION: _share(groups, lambda _, completion: has_unknown_situation(completion)),
            Sign.REPEATED_IN_GROUP: sum(map(_count_repeated, group_responses)) / _count(groups),
            Sign.REPEATED_IN_STEP: _count_repeated(step_responses) / _count(groups),
            Sign.ONE_RESPONSE: _largest_share_of_one_response(self.window),
            Sign.SHORT_QUESTION: _share(
                groups, lambda _, completion: is_short_question(completion.response, config.short_question_words)
            ),
            Sign.COPIED_HISTORY: _share(
                groups, lambda example, completion: copies_history(completion.response, example, config.copied_words)
            ),
        }
        signs |= self._word_ratios(groups)
        logged = {sign.logged: round(value, DECIMALS) for sign, value in signs.items()}
        self.history.append(logged)
        return logged

    def _word_ratios(self, groups: Sequence[ExampleCompletions]) -> dict[Sign, float]:
        word_counts = [
            (len(completion.response.split()), len(example.reference_response.split()))
            for example, completions in groups
            for completion in completions
            if completion.well_formed
        ]
        if not word_counts:
            return {}
        response_words, reference_words = (sum(counts) for counts in zip(*word_counts, strict=True))
        signs = {Sign.WORDS_TO_REFERENCE: response_words / max(1, reference_words)}
        mean_words = response_words / len(word_counts)
        if len(self.first_words) < self.config.window_steps:
            self.first_words.append(mean_words)
        else:
            signs[Sign.WORDS_TO_START] = mean_words / (sum(self.first_words) / len(self.first_words))
        return signs

    def state(self) -> dict[str, Any]:
        """The memory of earlier steps as lists, dicts, strings and numbers."""
        return {"history": self.history, "window": self.window, "first_words": self.first_words}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.history, self.window, self.first_words = (list(state[name]) for name in ("history", "window", "first_words"))


def has_unknown_situation(completion: ParsedCompletion) -> bool:
    """Whether the thought contains "Situation: Unknown"."""
    return parse_thought(completion.thought).status(Aspect.SITUATION) == "unknown"


def is_short_question(response: str, max_words: int) -> bool:
    """Whether the response has at most `max_words` words, split at white space, and ends with a question mark.

    >>> is_short_question("What do you mean?", max_words=6)
    True
    """
    return len(response.split()) <= max_words and response.rstrip().endswith("?")


def copies_history(response: str, example: SupportExample, run_words: int) -> bool:
    """Whether the response contains `run_words` consecutive words of a turn of the history, or all words of a shorter turn. Turns
    of fewer than `SHORTEST_COPIED_TURN` words are ignored."""
    response_text = f" {normalize(response)} "
    for turn in example.history:
        words = normalize(turn.text).split(" ")
        run = min(run_words, len(words))
        if len(words) >= SHORTEST_COPIED_TURN and any(
            f" {' '.join(words[start : start + run])} " in response_text for start in range(len(words) - run + 1)
        ):
            return True
    return False


def normalize(text: str) -> str:
    """The words of a text in lower case, without punctuation, separated by single spaces.

    >>> normalize("Oh … what do YOU mean?!")
    'oh what do you mean'
    """
    return " ".join(_WORD.findall(text.lower().replace("’", "'")))


def _normalized_responses(completions: Sequence[ParsedCompletion]) -> list[str]:
    """The normalized responses of the well-formed completions."""
    return [normalize(completion.response) for completion in completions if completion.well_formed]


def _count(groups: Sequence[ExampleCompletions]) -> int:
    return sum(len(completions) for _, completions in groups)


def _share(groups: Sequence[ExampleCompletions], shows_sign: Callable[[SupportExample, ParsedCompletion], bool]) -> float:
    """Share of all completions that are well-formed and show the sign."""
    count = sum(
        completion.well_formed and shows_sign(example, completion)
        for example, completions in groups
        for completion in completions
    )
    return count / _count(groups)


def _count_repeated(responses: Sequence[str]) -> int:
    """How many responses occur more than once, each occurrence counted."""
    return sum(count for count in Counter(responses).values() if count > 1)


def _responses_by_example(groups: Sequence[ExampleCompletions], group_responses: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    return {example.id: sorted(set(responses)) for (example, _), responses in zip(groups, group_responses, strict=True)}


def _largest_share_of_one_response(window: Sequence[Mapping[str, Sequence[str]]]) -> float:
    """The largest share of the window's examples that have one response in common."""
    responses_of: dict[str, set[str]] = {}
    for step in window:
        for example_id, responses in step.items():
            responses_of.setdefault(example_id, set()).update(responses)
    counts = Counter(response for responses in responses_of.values() for response in responses)
    return max(counts.values(), default=0) / len(responses_of)
