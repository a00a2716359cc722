"""Files of a batch service (OpenAI's batch API and services like it): requests to upload, results to read."""

from __future__ import annotations

import json
from pathlib import Path

from fires_exp.config.services import ServiceConfig
from fires_exp.errors import ServiceError
from fires_exp.services.messages import ChatRequest, ChatResponse
from fires_exp.services.response_cache import ResponseCache
from fires_exp.services.responses import MalformedResponseError, error_text, parse_response
from fires_exp.services.wire_format import request_body
from fires_exp.storage.json_input import parse_json


def batch_line(key: str, request: ChatRequest, config: ServiceConfig) -> str:
    """A request as a line of the file to upload; `key` is its cache key."""
    row = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": request_body(request, config)}
    return json.dumps(row, ensure_ascii=False) + "\n"


def read_batch_results(path: Path, cache: ResponseCache) -> int:
    """Store a batch service's responses in the cache and return how many were new. A failed request is skipped: the next run
    sends it again. Raises `ServiceError` that names an invalid line."""
    if not path.is_file():
        raise ServiceError(f"{path}: file not found; write the path of a batch service's results file")
    count = 0
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = parse_json(line)
                key, result = row["custom_id"], row["response"]
                if result is None or result["status_code"] != 200 or cache.find(key) is not None:
                    continue
                response = parse_response(json.dumps(result["body"]).encode(), 0.0)
            except (ValueError, KeyError, TypeError, MalformedResponseError):
                raise ServiceError(
                    f"{path}:{number}: not a result of a batch service: {error_text(line.encode())}; correct or delete the line"
                ) from None
            if isinstance(response, ChatResponse) or response.was_billed:
                cache.add(key, "", response)
                count += 1
    return count
