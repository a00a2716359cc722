"""The format of a completion: `<think> … </think><response> … </response>` (paper, 3.4.3), or the bare response for a plan
without thinking.

`parse_completion` is strict about the format, and extracts a response from a malformed completion too, for the metrics; rewards
check `well_formed` first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fires_exp.thinking.aspects import ThinkingPlan

TAGS = ("<think>", "</think>", "<response>", "</response>")

_ANY_TAG = re.compile("|".join(map(re.escape, TAGS)))


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedCompletion:
    """`thought` is empty where there is none. `response` of a malformed completion is its readable rest."""

    thought: str
    response: str
    well_formed: bool


def render_completion(thought: str, response: str, plan: ThinkingPlan) -> str:
    """The text that a model learns to write."""
    return f"<think>\n{thought}\n</think>\n<response>{response}</response>" if plan.thinks else response


def parse_completion(text: str, plan: ThinkingPlan) -> ParsedCompletion:
    """A completion is well-formed if it has each tag once, in order, only white space outside of them, and neither thought nor
    response is empty; for a plan without thinking, if it has text and no tag."""
    tags = tuple(_ANY_TAG.findall(text))
    if plan.thinks and tags == TAGS:
        before, thought, between, response, after = map(str.strip, _ANY_TAG.split(text))
        if thought and response and not (before or between or after):
            return ParsedCompletion(thought=thought, response=response, well_formed=True)
    if not plan.thinks and text.strip() and not tags:
        return ParsedCompletion(thought="", response=text.strip(), well_formed=True)
    return _salvage(text)


def _salvage(text: str) -> ParsedCompletion:
    """The response is the text after the last `<response>`, else after the last `</think>`, else before an open `<think>`."""
    thought, response = "", text
    if "<response>" in text:
        thought, response = text.rsplit("<response>", 1)
    elif "</think>" in text:
        thought, response = text.rsplit("</think>", 1)
    elif "<think>" in text:
        response, thought = text.split("<think>", 1)
    return ParsedCompletion(
        thought=_ANY_TAG.sub(" ", thought).strip(), response=_ANY_TAG.sub(" ", response).strip(), well_formed=False
    )
