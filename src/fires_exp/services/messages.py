"""What is asked and what comes back, and their form on the wire (`POST <base_url>/chat/completions`)."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from fires_exp.config.services import ServiceConfig

_JPEG_QUALITY = 90
_LETTERS_A_TOKEN = 4  # of English text, roughly; for estimates alone


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatMessage:
    """One message; `parts` are texts and pictures in the order in which they are read."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[str | Image.Image, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A chat that awaits its next message; `id` says what it is about."""

    id: str
    messages: tuple[ChatMessage, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Tokens that were read (pictures included) and written (own reasoning included)."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A model's message. `reasoning` is what a reasoning model thought for itself, kept apart from `text`; `model` is what the
    service says answered; `seconds` from sending to having it."""

    text: str
    reasoning: str
    finish_reason: str
    model: str
    usage: Usage
    seconds: float
    created: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """The service or the model will not answer this question, however often it is asked. `usage` is what saying so took: nothing
    where the service did not read it."""

    reason: str
    usage: Usage

    @property
    def was_paid(self) -> bool:
        return self.usage != NOTHING


NOTHING = Usage(prompt_tokens=0, completion_tokens=0)

# Questions in, each with its answer out, in the order in which answers come; a question that gets none is left out.
Asker = Callable[[Iterable[Question]], Iterator[tuple[Question, Answer | Refusal]]]


def request_body(question: Question, config: ServiceConfig) -> dict[str, Any]:
    """The JSON to post. Pictures travel as JPEG data URLs."""
    body: dict[str, Any] = {
        "model": config.model,
        "messages": [_on_the_wire(message, config.image_detail) for message in question.messages],
        config.max_tokens_key: config.max_tokens,
    }
    return body if config.temperature is None else body | {"temperature": config.temperature}


def question_key(question: Question, asked_of: Sequence[object]) -> str:
    """Forty hex digits that change with any text, any pixel and with `asked_of`, which says who is asked and how."""
    messages = [
        [message.role, [part if isinstance(part, str) else _pixels_hash(part) for part in message.parts]]
        for message in question.messages
    ]
    return hashlib.sha256(json.dumps([*asked_of, messages]).encode()).hexdigest()[:40]


def asked_of(config: ServiceConfig) -> list[object]:
    """Whatever of the configuration decides what a service answers."""
    return [config.base_url, config.model, config.temperature, config.max_tokens, config.image_detail]


def frames_in(question: Question) -> int:
    return sum(not isinstance(part, str) for message in question.messages for part in message.parts)


def most_usage(question: Question, config: ServiceConfig) -> Usage:
    """An estimate, without the service's tokenizer, of what a question costs at most."""
    letters = sum(len(part) for message in question.messages for part in message.parts if isinstance(part, str))
    prompt = letters // _LETTERS_A_TOKEN + config.frame_tokens * frames_in(question)
    return Usage(prompt_tokens=prompt, completion_tokens=config.max_tokens)


def _on_the_wire(message: ChatMessage, image_detail: str) -> dict[str, Any]:
    """A message of text alone is a plain string: services without pictures know no other form."""
    if all(isinstance(part, str) for part in message.parts):
        return {"role": message.role, "content": "".join(part for part in message.parts if isinstance(part, str))}
    content = [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image_url", "image_url": {"url": _data_url(part), "detail": image_detail}}
        for part in message.parts
    ]
    return {"role": message.role, "content": content}


def _data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _pixels_hash(image: Image.Image) -> str:
    return hashlib.sha256(f"{image.mode} {image.size}".encode() + image.tobytes()).hexdigest()
