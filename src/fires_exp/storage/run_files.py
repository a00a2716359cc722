"""The JSON files of a run folder, read at any time: while the run writes them, after it has finished, after it was killed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fires_exp.errors import StageError

TERMINAL = "terminal.log"
_ERROR_PREFIX = "fires_exp: "


def read_object(path: Path) -> dict[str, Any]:
    """The object of a JSON file; empty where the file is missing or holds null. Raises `StageError` for anything else."""
    if not path.is_file():
        return {}
    try:
        facts: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise StageError(f"{path}: no JSON ({error}); run again, or delete the file to leave it out") from None
    return facts or {}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file; empty where the file is missing. An incomplete last line, as a running or killed process
    leaves it, is dropped. Raises `StageError` for any other broken line."""
    return list(_rows(path, _lines(path)))


def read_first_and_last_step(path: Path) -> list[dict[str, Any]]:
    """Of a JSON-lines file whose rows have ascending values of `step`, the rows of the first and of the last step. The rows in
    between, which may be many, are not parsed."""
    lines = _lines(path)
    first = _rows_of_one_step(path, lines)
    last = _rows_of_one_step(path, lines[len(first) :][::-1])
    return [*first, *last[::-1]]


def _rows_of_one_step(path: Path, lines: Sequence[tuple[int, str]]) -> list[dict[str, Any]]:
    """The rows from the beginning of `lines` that have the same step."""
    rows: list[dict[str, Any]] = []
    for row in _rows(path, lines):
        if rows and row["step"] != rows[0]["step"]:
            break
        rows.append(row)
    return rows


def _lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a file with their numbers; without an incomplete last one."""
    if not path.is_file():
        return []
    *complete, last = path.read_text(encoding="utf-8").split("\n")
    numbered = list(enumerate(complete, start=1))
    return [*numbered, (len(complete) + 1, last)] if _is_json(last) else numbered


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except json.JSONDecodeError:
        return False
    return True


def _rows(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[dict[str, Any]]:
    for number, line in lines:
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            raise StageError(f"{path}:{number}: no JSON ({error}); run again, or delete the file to leave it out") from None


def stage_state(stage: Mapping[str, Any]) -> str:
    """The state of an entry of run.json's `stages`; records from before there were states list completed stages only.

    >>> stage_state({"stage": "sft", "state": "running"}), stage_state({"stage": "sft", "reused": True})
    ('running', 'reused')
    """
    return str(stage.get("state") or ("reused" if stage.get("reused") else "finished"))


def completed_stages(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The entries of run.json's `stages` whose artifact is complete, computed by the run or reused."""
    return [stage for stage in record.get("stages", ()) if stage_state(stage) in ("finished", "reused")]


def refusal(folder: Path) -> str:
    """The last error message in the terminal output of a sweep's run; empty where there is none."""
    terminal = folder / TERMINAL
    text = terminal.read_text(encoding="utf-8", errors="replace") if terminal.is_file() else ""
    errors = [line for line in text.splitlines() if line.startswith(_ERROR_PREFIX)]
    return errors[-1].removeprefix(_ERROR_PREFIX) if errors else ""
