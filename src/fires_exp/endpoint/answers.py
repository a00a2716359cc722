"""Reading what a service sent: the answer in a response's JSON, a model's own reasoning apart from what it says."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from fires_exp.endpoint.chat import Answer, Refusal, Usage

_SHOWN = 300  # letters of a service's answer in a message

# `<think>…</think>` of reasoning models, the opening tag of which a chat template may have swallowed. Thoughts in this project's
# own form stand right before <response> and are no reasoning of the model's own.
_OWN_REASONING = re.compile(r"\s*(?:<think>)?(?P<reasoning>.*?)</think>\s*(?!\s*<response>)(?P<text>.*)", re.DOTALL)


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
            return Refusal(reason=f"refused: {message.get('refusal') or 'content filter'}")
        content = message["content"]
        if not isinstance(content, str):
            raise BrokenAnswerError(f"the answer's content is {json.dumps(content)[:_SHOWN]}, not text")
        reasoning = message.get("reasoning_content") or message.get("reasoning")
        own, text = (reasoning, content) if isinstance(reasoning, str) else split_reasoning(content)
        usage = facts.get("usage") or {}
        return Answer(
            text=text,
            reasoning=own,
            finish_reason=finish_reason,
            model=str(facts.get("model", "")),
            usage=Usage(
                prompt_tokens=int(usage.get("prompt_tokens", 0)), completion_tokens=int(usage.get("completion_tokens", 0))
            ),
            seconds=round(seconds, 3),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise BrokenAnswerError(f"no chat completion: {in_one_line(body)}") from None


def split_reasoning(content: str) -> tuple[str, str]:
    """What a model thought for itself and what it says.

    >>> split_reasoning("<think>She is sad.</think>\\n\\nI am sorry.")
    ('She is sad.', 'I am sorry.')
    >>> split_reasoning("<think>Emotion: sad</think><response>I am sorry.</response>")[0]
    ''
    """
    found = _OWN_REASONING.fullmatch(content)
    return ("", content) if found is None else (found["reasoning"].strip(), found["text"])


def in_one_line(body: bytes) -> str:
    """A service's own words for a message: its error text if it has one, else the beginning of what it sent."""
    text = body.decode("utf-8", "replace")
    try:
        facts: Any = json.loads(text)
        error = facts["error"]
        text = str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        pass
    return " ".join(text.split())[:_SHOWN] or "nothing"
