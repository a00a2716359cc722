"""Thoughts on disk: one JSON line per thought, with its teacher, prompt, time and cost.

    {"example_id": "mesc-0-1", "plan": "flexible", "teacher": "openai", "model": "gpt-4o-2024-11-20", "prompt_hash": "…",
     "created": "2026-01-31T12:00:00+00:00", "seconds": 2.1, "usage": {"prompt_tokens": 900, "completion_tokens": 80},
     "aspects": {"emotion": "sadness", "response_strategy": "I should …"}, "prose": ""}

A bank may come from elsewhere, written by hand or by a model: reading checks every line. `model`, `seconds` and `usage` are
optional.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from fires_exp.errors import DataError
from fires_exp.services.messages import Usage
from fires_exp.services.responses import parse_usage
from fires_exp.storage.json_input import parse_json
from fires_exp.thinking.aspects import Aspect
from fires_exp.thinking.thought import Thought


@dataclass(frozen=True, kw_only=True, slots=True)
class BankedThought:
    """A thought with its provenance. `prompt_hash` identifies the teacher's instructions; `usage` and `seconds` are sums over all
    answers up to this thought. `model` is empty for a teacher without a model."""

    example_id: str
    plan: str
    teacher: str
    model: str
    prompt_hash: str
    created: str
    seconds: float
    usage: Usage
    thought: Thought


def write_bank(path: Path, thoughts: Iterable[BankedThought]) -> int:
    """Write a bank and return the number of thoughts."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for banked in thoughts:
            row = {
                "example_id": banked.example_id,
                "plan": banked.plan,
                "teacher": banked.teacher,
                "model": banked.model,
                "prompt_hash": banked.prompt_hash,
                "created": banked.created,
                "seconds": banked.seconds,
                "usage": asdict(banked.usage),
                "aspects": {aspect.value: text for aspect, text in banked.thought.aspects.items()},
                "prose": banked.thought.prose,
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def read_bank(path: Path) -> dict[str, BankedThought]:
    """The thoughts of a bank by example id. Raises `DataError` that names the line."""
    thoughts: dict[str, BankedThought] = {}
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}:{number}"
            try:
                row = parse_json(line)
                banked = BankedThought(
                    example_id=str(row["example_id"]),
                    plan=str(row["plan"]),
                    teacher=str(row["teacher"]),
                    model=str(row.get("model", "")),
                    prompt_hash=str(row["prompt_hash"]),
                    created=str(row["created"]),
                    seconds=float(row.get("seconds", 0)),
                    usage=parse_usage(row.get("usage", {})),
                    thought=Thought(
                        aspects={Aspect(key): str(text) for key, text in row["aspects"].items()}, prose=str(row["prose"])
                    ),
                )
            except KeyError as error:
                raise DataError(f"{where}: the thought lacks the key {error}; add it or delete the line") from None
            except (ValueError, AttributeError, TypeError) as error:
                raise DataError(f"{where}: not a thought ({error}); correct or delete the line") from None
            if banked.example_id in thoughts:
                raise DataError(f"{where}: a second thought for {banked.example_id}; delete one of them")
            thoughts[banked.example_id] = banked
    return thoughts
