"""The JSON files of a run folder, and what a sweep's run said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fires_exp.errors import StageError

TERMINAL = "terminal.log"
_SPEAKER = "fires_exp: "


def read_object(path: Path) -> dict[str, Any]:
    """A file's object; empty where there is no file or it says null."""
    if not path.is_file():
        return {}
    try:
        facts: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise StageError(f"{path}: no JSON ({error}); run again, or delete the file to leave it out") from None
    return facts or {}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """A file's rows; none where there is no file. Half a row at the end, as a killed run leaves one, is left out."""
    if not path.is_file():
        return []
    *whole, rest = path.read_text(encoding="utf-8").split("\n")
    rows = []
    for number, line in enumerate(whole, start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise StageError(f"{path}:{number}: no JSON ({error}); run again, or delete the file to leave it out") from None
    try:
        return [*rows, json.loads(rest)] if rest else rows
    except json.JSONDecodeError:
        return rows


def refusal(folder: Path) -> str:
    """The last line in which a sweep's run that was refused says why; empty where it said nothing."""
    terminal = folder / TERMINAL
    text = terminal.read_text(encoding="utf-8", errors="replace") if terminal.is_file() else ""
    said = [line for line in text.splitlines() if line.startswith(_SPEAKER)]
    return said[-1].removeprefix(_SPEAKER) if said else ""
