"""Parsing of what a service sends: the message, the model's reasoning, token counts, error texts."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime
from typing import Any

from fires_exp.services.messages import ChatResponse, Refusal, Usage
from fires_exp.storage.json_input import replace_surrogates

_MAX_QUOTED_CHARACTERS = 300  # of a service's text in an error

# The end of a reasoning model's `<think>…</think>`; a chat template may have consumed the opening tag. A thought in this
# project's own format is followed directly by <response> and is part of the text, not reasoning.
_END_OF_REASONING = re.compile(r"</think>(?!\s*<response>)\s*")


class MalformedResponseError(Exception):
    """The body is truncated, not JSON or without a message. The request is worth a retry."""


def parse_response(body: bytes, seconds: float) -> ChatResponse | Refusal:
    """The message in the body of a response with status 200. Raises `MalformedResponseError`."""
    try:
        completion = json.loads(body)
        choice = completion["choices"][0]
        message = choice["message"]
        finish_reason = str(choice.get("finish_reason") or "stop")
        if finish_reason == "content_filter" or message.get("refusal"):
            reason = _single_line(f"refused: {message.get('refusal') or 'content filter'}")
            return Refusal(reason=reason, usage=parse_usage(completion.get("usage") or {}))
        content = message["content"]
        if not isinstance(content, str):
            raise MalformedResponseError(
                f"the content of the message is {json.dumps(content)[:_MAX_QUOTED_CHARACTERS]}, not text"
            )
        content = replace_surrogates(content)
        separate = message.get("reasoning_content") or message.get("reasoning")
        reasoning, text = (replace_surrogates(separate), content) if isinstance(separate, str) else split_reasoning(content)
        return ChatResponse(
            text=text,
            reasoning=reasoning,
            finish_reason=_single_line(finish_reason),
            model=_single_line(str(completion.get("model", ""))),
            usage=parse_usage(completion.get("usage") or {}),
            seconds=round(seconds, 3),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise MalformedResponseError(f"not a chat completion: {error_text(body)}") from None


def parse_usage(usage: Any) -> Usage:
    """Token counts; a missing one is 0. Raises `ValueError` for anything but non-negative numbers."""
    counts = {key: usage.get(key, 0) for key in ("prompt_tokens", "completion_tokens")} if isinstance(usage, dict) else {}
    if not counts or not all(isinstance(count, int | float) and math.isfinite(count) and count >= 0 for count in counts.values()):
        raise ValueError(f"usage is {json.dumps(usage)[:_MAX_QUOTED_CHARACTERS]}, not token counts")
    return Usage(**{key: int(count) for key, count in counts.items()})


def split_reasoning(content: str) -> tuple[str, str]:
    """Reasoning and text of a message that holds both.

    >>> split_reasoning("<think>She is sad.</think>\\n\\nI am sorry.")
    ('She is sad.', 'I am sorry.')
    >>> split_reasoning("<think>Emotion: sad</think><response>I am sorry.</response>")[0]
    ''
    """
    end = _END_OF_REASONING.search(content)
    if end is None:
        return "", content
    return content[: end.start()].strip().removeprefix("<think>").strip(), content[end.end() :]


def error_text(body: bytes) -> str:
    """A service's error text on one line, or the beginning of the body where there is none."""
    text = body.decode("utf-8", "replace")
    try:
        content: Any = json.loads(text)
        error = content["error"]
        text = str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return _single_line(text)[:_MAX_QUOTED_CHARACTERS] or "empty body"


def _single_line(text: str) -> str:
    return " ".join(replace_surrogates(text).split())
