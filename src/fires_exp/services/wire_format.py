"""Requests in the form of the OpenAI chat API (`POST <base_url>/chat/completions`), their cache keys and their size."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from typing import Any

from PIL import Image

from fires_exp.config.services import ServiceConfig
from fires_exp.services.messages import ChatMessage, ChatRequest, Usage

_JPEG_QUALITY = 90
_CHARACTERS_PER_TOKEN = 4  # rough, for English; used for estimates only


def request_body(request: ChatRequest, config: ServiceConfig) -> dict[str, Any]:
    """The JSON body. Images are JPEG data URLs."""
    body: dict[str, Any] = {
        "model": config.model,
        "messages": [_message_body(message, config.image_detail) for message in request.messages],
        config.max_tokens_key: config.max_tokens,
    }
    return body if config.temperature is None else body | {"temperature": config.temperature}


def request_key(request: ChatRequest, settings: Sequence[object]) -> str:
    """The cache key of a response: 40 hex digits that depend on every text, every pixel and on `settings`, those of the model
    that responds (`response_settings`). Stored responses are found by this key, so its definition must not change."""
    messages = [
        [message.role, [part if isinstance(part, str) else _pixel_hash(part) for part in message.parts]]
        for message in request.messages
    ]
    return hashlib.sha256(json.dumps([*settings, messages]).encode()).hexdigest()[:40]


def response_settings(config: ServiceConfig) -> list[object]:
    """The settings that determine a service's response to a request."""
    return [config.base_url, config.model, config.temperature, config.max_tokens, config.image_detail]


def count_images(request: ChatRequest) -> int:
    return sum(not isinstance(part, str) for message in request.messages for part in message.parts)


def max_usage(request: ChatRequest, config: ServiceConfig) -> Usage:
    """An upper estimate of the tokens of a request, made without the service's tokenizer."""
    characters = sum(len(part) for message in request.messages for part in message.parts if isinstance(part, str))
    prompt = characters // _CHARACTERS_PER_TOKEN + config.frame_tokens * count_images(request)
    return Usage(prompt_tokens=prompt, completion_tokens=config.max_tokens)


def _message_body(message: ChatMessage, image_detail: str) -> dict[str, Any]:
    """A message without images is a plain string: text-only services accept no other form."""
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


def _pixel_hash(image: Image.Image) -> str:
    return hashlib.sha256(f"{image.mode} {image.size}".encode() + image.tobytes()).hexdigest()
