"""The records that requests to chat models and their responses are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from PIL import Image


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatMessage:
    """One message of a chat; `parts` are texts and images in reading order."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[str | Image.Image, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatRequest:
    """A chat whose next message is requested. `id` names its subject in logs and errors; the cache does not depend on it.

    ChatRequest(id="mesc-0-1", messages=(ChatMessage(role="user", parts=("How do I look?", image)),))
    """

    id: str
    messages: tuple[ChatMessage, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """Token counts as the service reports them. Prompt tokens include images, completion tokens include reasoning."""

    prompt_tokens: int
    completion_tokens: int


NO_USAGE = Usage(prompt_tokens=0, completion_tokens=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatResponse:
    """A model's message.

    text: without reasoning · reasoning: of a reasoning model, empty otherwise · model: as the service reports it ·
    seconds: from sending the request to the end of the response · created: ISO 8601, UTC
    """

    text: str
    reasoning: str
    finish_reason: str
    model: str
    usage: Usage
    seconds: float
    created: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """The service or the model rejects this request; sending it again would not help. `usage` is what the rejection cost,
    `NO_USAGE` where the service did not process the request."""

    reason: str
    usage: Usage

    @property
    def was_billed(self) -> bool:
        return self.usage != NO_USAGE


# Yields each request with its response, in order of completion. A request without a response is left out.
ChatBackend = Callable[[Iterable[ChatRequest]], Iterator[tuple[ChatRequest, ChatResponse | Refusal]]]
