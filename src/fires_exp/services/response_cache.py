"""Paid responses and refusals on disk, in `<artifacts>/answers/<host>-<model>.jsonl`: one JSON line each, found by request key.

{"key": "…", "question": "mesc-0-1", "text": "…", "reasoning": "", "finish_reason": "stop", "model": "gpt-4o-2024-11-20",
 "usage": {"prompt_tokens": 900, "completion_tokens": 80}, "seconds": 2.1, "created": "2026-01-31T12:00:00+00:00"}
{"key": "…", "question": "mesc-0-2", "reason": "refused: content filter", "usage": {"prompt_tokens": 900, "completion_tokens": 0}}

Folder, keys and JSON names are those of the first release ("question" is the request's id), so that paid responses stay valid.
"""

from __future__ import annotations

import json
import threading
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from fires_exp.config.services import ServiceConfig
from fires_exp.errors import ServiceError
from fires_exp.services.messages import ChatResponse, Refusal
from fires_exp.services.responses import parse_usage
from fires_exp.storage.json_input import parse_json


class ResponseCache:
    """Responses by key, in an append-only file. Threads and processes may share it. A partial last line, left by a killed
    process, is removed when the file is opened. Raises `ServiceError` that names an invalid line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file_lock = FileLock(path.with_name(path.name + ".lock"))
        with self._file_lock:
            self._responses = _read(path)

    def __len__(self) -> int:
        return len(self._responses)

    def find(self, key: str) -> ChatResponse | Refusal | None:
        return self._responses.get(key)

    def add(self, key: str, request_id: str, response: ChatResponse | Refusal) -> None:
        """The response is on disk when this returns."""
        line = json.dumps({"key": key, "question": request_id, **asdict(response)}, ensure_ascii=False) + "\n"
        with self._lock, self._file_lock:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
            self._responses[key] = response


def cache_path(artifacts: Path, config: ServiceConfig) -> Path:
    """The file of one model at one service, shared by all stages."""
    model = _file_name(config.model or "")
    host = _file_name((config.base_url or "").split("://")[-1])
    return artifacts / "answers" / f"{host}-{model}.jsonl"


def _file_name(text: str) -> str:
    return "".join(character if character.isalnum() or character in ".-" else "_" for character in text)


def _read(path: Path) -> dict[str, ChatResponse | Refusal]:
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8", errors="replace")
    complete_lines, _, partial_line = text.rpartition("\n")
    if partial_line:
        with path.open("rb+") as file:
            file.truncate(path.read_bytes().rfind(b"\n") + 1)
    responses: dict[str, ChatResponse | Refusal] = {}
    for number, line in enumerate(complete_lines.split("\n") if complete_lines else (), start=1):
        try:
            row = parse_json(line)
            key, usage = str(row.pop("key")), parse_usage(row.pop("usage"))
            del row["question"]
            if "reason" in row:
                responses[key] = Refusal(reason=str(row["reason"]), usage=usage)
                continue
            seconds = float(row.pop("seconds"))
            responses[key] = ChatResponse(**{name: str(value) for name, value in row.items()}, usage=usage, seconds=seconds)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ServiceError(f"{path}:{number}: not a cached response ({error}); correct or delete the line") from None
    return responses
