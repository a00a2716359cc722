"""Reading what a service sent: the answer in a response's JSON, a model's own reasoning apart from what it says."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from typing import Any

from fires_exp.services.messages import Answer, Refusal, Usage
from fires_exp.storage.json_input import replace_surrogates

_SHOWN = 300  # letters of a service's answer in a message

# `<think>…</think>` of reasoning models, the opening tag of which a chat template may have swallowed. Thoughts in this project's
# own form stand right before <response> and are no reasoning of the model's own.
_END_OF_REASONING = re.compile(r"</think>(?!\s*<response>)\s*")


class BrokenAnswerError(Exception):
    """A response that is none: half a body, no JSON, no message. Worth another try."""


def read_answer(body: bytes, seconds: float) -> Answer | Refusal:
    """The answer in the body of a response with status 200. Raises `BrokenAnswerError`."""
    try:
        facts = json.loads(body)
        choice = facts["choices"][0]
        message = choice["message"]
        finish_reason = str(choice.get("finish_reason") or "stop")
        if finish_reason == "content_filter" or message.get("refusal"):
            said = _plain(f"refused: {message.get('refusal') or 'content filter'}")
            return Refusal(reason=said, usage=read_usage(facts.get("usage") or {}))
        content = message["content"]
        if not isinstance(content, str):
            raise BrokenAnswerError(f"the answer's content is {json.dumps(content)[:_SHOWN]}, not text")
        content = replace_surrogates(content)
        reasoning = message.get("reasoning_content") or message.get("reasoning")
        own, text = (replace_surrogates(reasoning), content) if isinstance(reasoning, str) else split_reasoning(content)
        return Answer(
            text=text,
            reasoning=own,
            finish_reason=_plain(finish_reason),
            model=_plain(str(facts.get("model", ""))),
            usage=read_usage(facts.get("usage") or {}),
            seconds=round(seconds, 3),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise BrokenAnswerError(f"no chat completion: {in_one_line(body)}") from None


def read_usage(facts: Any) -> Usage:
    """Tokens as a service or a file tells them; 0 where it does not. Raises `ValueError` for anything but counts."""
    counts = {key: facts.get(key, 0) for key in ("prompt_tokens", "completion_tokens")} if isinstance(facts, dict) else {}
    if not counts or not all(isinstance(count, int | float) and math.isfinite(count) and count >= 0 for count in counts.values()):
        raise ValueError(f"usage {json.dumps(facts)[:_SHOWN]} is no count of tokens")
    return Usage(**{key: int(count) for key, count in counts.items()})


def split_reasoning(content: str) -> tuple[str, str]:
    """What a model thought for itself and what it says.

    >>> split_reasoning("<think>She is sad.</think>\\n\\nI am sorry.")
    ('She is sad.', 'I am sorry.')
    >>> split_reasoning("<think>Emotion: sad</think><response>I am sorry.</response>")[0]
    ''
    """
    end = _END_OF_REASONING.search(content)
    if end is None:
        return "", content
    return content[: end.start()].strip().removeprefix("<think>").strip(), content[end.end() :]


def in_one_line(body: bytes) -> str:
    """A service's own words for a message: its error text if it has one, else the beginning of what it sent."""
    text = body.decode("utf-8", "replace")
    try:
        facts: Any = json.loads(text)
        error = facts["error"]
        text = str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return _plain(text)[:_SHOWN] or "nothing"


def _plain(text: str) -> str:
    """On one line and whole."""
    return " ".join(replace_surrogates(text).split())
