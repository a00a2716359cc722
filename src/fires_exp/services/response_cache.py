"""Every answer and refusal that was ever paid for, on disk: one JSON line each, written as it comes, found again by its question.

{"key": "…", "question": "mesc-0-1", "text": "…", "reasoning": "", "finish_reason": "stop", "model": "gpt-4o-2024-11-20",
 "usage": {"prompt_tokens": 900, "completion_tokens": 80}, "seconds": 2.1, "created": "2026-01-31T12:00:00+00:00"}
{"key": "…", "question": "mesc-0-2", "reason": "refused: content filter", "usage": {"prompt_tokens": 900, "completion_tokens": 0}}
"""

from __future__ import annotations

import json
import threading
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from fires_exp.errors import ServiceError
from fires_exp.services.messages import Answer, Refusal
from fires_exp.services.responses import read_usage
from fires_exp.storage.json_input import parse_json


class Ledger:
    """Answers by key, kept in a file that only grows. Threads and processes may share it; half a line, as a kill in the middle
    of writing leaves, is cut off when the file is opened. Raises `ServiceError` that names a line which is no answer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._between_processes = FileLock(path.with_name(path.name + ".lock"))
        with self._between_processes:
            self._answers = _read(path)

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, key: str) -> Answer | Refusal | None:
        return self._answers.get(key)

    def add(self, key: str, question_id: str, answer: Answer | Refusal) -> None:
        """The answer is on disk when this returns."""
        line = json.dumps({"key": key, "question": question_id, **asdict(answer)}, ensure_ascii=False) + "\n"
        with self._lock, self._between_processes:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
            self._answers[key] = answer


def _read(path: Path) -> dict[str, Answer | Refusal]:
    if not path.is_file():
        return {}
    text = path.read_text(encoding="utf-8", errors="replace")
    whole, _, rest = text.rpartition("\n")
    if rest:
        with path.open("rb+") as file:
            file.truncate(path.read_bytes().rfind(b"\n") + 1)
    answers: dict[str, Answer | Refusal] = {}
    for number, line in enumerate(whole.split("\n") if whole else (), start=1):
        try:
            row = parse_json(line)
            key, usage = str(row.pop("key")), read_usage(row.pop("usage"))
            del row["question"]
            if "reason" in row:
                answers[key] = Refusal(reason=str(row["reason"]), usage=usage)
                continue
            seconds = float(row.pop("seconds"))
            answers[key] = Answer(**{name: str(value) for name, value in row.items()}, usage=usage, seconds=seconds)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ServiceError(f"{path}:{number}: not an answer ({error}); mend or delete the line") from None
    return answers
