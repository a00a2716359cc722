"""Predictions and references from JSONL files, of this project's runs or of any other system.

A row is {"id", "response"}, with "context" (the last seeker turn) in either file where DIFF-EPITOME is wanted. The predictions
of a run also hold "thought", "well_formed" and "reference_response", so they need no file of references.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fires_exp.errors import ScoreError
from fires_exp.metrics.measures import ScoredResponse
from fires_exp.storage.json_input import parse_json

REQUIRED_KEYS = ("id", "response")
KEY_TYPES: Mapping[str, type] = {
    "id": str,
    "response": str,
    "context": str,
    "thought": str,
    "reference_response": str,
    "well_formed": bool,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionRow:
    """A row of a file; `where` is `file:line`, an absent key is None."""

    where: str
    response: str
    context: str | None
    thought: str | None
    reference_response: str | None
    well_formed: bool | None


def read_systems(predictions: Sequence[str], references: str | None) -> dict[str, list[ScoredResponse]]:
    """The answers of each file in the order of the references. A system is named by its file's stem, or by its path where two
    files have the same stem. Without `references`, the `reference_response` of the first file is used.

    Raises `ScoreError` where a file cannot be read, or where two files do not hold the same instances.
    """
    files = [Path(name).expanduser() for name in predictions]
    rows_of_files = {file: read_rows_by_id(file) for file in files}
    if len(rows_of_files) < len(files):
        raise ScoreError(f"predictions={list(predictions)}: a file is listed twice; list each once")
    if references is None:
        reference_file, reference_rows = files[0], _own_references(rows_of_files)
    else:
        reference_file = Path(references).expanduser()
        reference_rows = read_rows_by_id(reference_file)
    stems = [file.stem for file in files]
    names = [file.stem if stems.count(file.stem) == 1 else str(file.with_suffix("")) for file in files]
    return {
        name: _answers(file, rows_of_files[file], reference_file, reference_rows) for name, file in zip(names, files, strict=True)
    }


def read_rows_by_id(file: Path) -> dict[str, PredictionRow]:
    """The rows of a file by their id. Raises `ScoreError`, which names the line, where a row is no JSON object, lacks a key, has
    a value of the wrong type, or repeats an id."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise ScoreError(f"{file}: {error.strerror or error}; name a .jsonl file") from None
    except UnicodeDecodeError as error:
        raise ScoreError(f"{file}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    rows: dict[str, PredictionRow] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"{file}:{number}"
            values = _checked_values(line, where)
            instance_id = values.pop("id")
            if instance_id in rows:
                raise ScoreError(f"{where}: id {instance_id} is already in {rows[instance_id].where}; keep one of the two rows")
            rows[instance_id] = PredictionRow(where=where, **values)
    if not rows:
        raise ScoreError(f'{file}: no rows; write {{"id": …, "response": …}} for each instance')
    return rows


def _checked_values(line: str, where: str) -> dict[str, Any]:
    try:
        row = parse_json(line)
    except ValueError as error:
        raise ScoreError(f'{where}: invalid JSON ({error}); write one object a line, {{"id": …, "response": …}}') from None
    if not isinstance(row, dict):
        raise ScoreError(f'{where}: not a JSON object; write {{"id": …, "response": …}}')
    for key in REQUIRED_KEYS:
        if row.get(key) is None:
            raise ScoreError(f'{where}: no "{key}"; a row needs {" and ".join(REQUIRED_KEYS)}')
    values = {key: row.get(key) for key in KEY_TYPES}
    for key, expected_type in KEY_TYPES.items():
        if values[key] is not None and not isinstance(values[key], expected_type):
            expected = "a string" if expected_type is str else "true or false"
            raise ScoreError(f'{where}: "{key}" is {json.dumps(values[key])}; write {expected}')
    return values


def _own_references(rows_of_files: Mapping[Path, Mapping[str, PredictionRow]]) -> dict[str, PredictionRow]:
    """The references that the predictions of runs hold, as rows: those of the first file, which the others must repeat."""
    references: dict[str, PredictionRow] = {}
    for file_index, rows in enumerate(rows_of_files.values()):
        for instance_id, row in rows.items():
            if row.reference_response is None:
                raise ScoreError(f'{row.where}: no "reference_response"; write references=<file>')
            if file_index == 0:
                references[instance_id] = replace(row, response=row.reference_response)
            elif instance_id in references and row.reference_response != references[instance_id].response:
                raise ScoreError(
                    f"{row.where}: reference_response differs from {references[instance_id].where}; write references=<file>"
                )
    return references


def _answers(
    file: Path, rows: Mapping[str, PredictionRow], reference_file: Path, references: Mapping[str, PredictionRow]
) -> list[ScoredResponse]:
    """The answers in the order of the references. Raises `ScoreError` unless both hold the same ids."""
    for instance_id, row in rows.items():
        if instance_id not in references:
            raise ScoreError(f"{row.where}: id {instance_id} is not in {reference_file}; remove the row, or add its reference")
    missing = [instance_id for instance_id in references if instance_id not in rows]
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ScoreError(
            f"{file}: no row for id {missing[0]} ({references[missing[0]].where}){others}; add it (the response may be empty)"
        )
    return [
        ScoredResponse(
            response=rows[instance_id].response,
            reference=reference.response,
            context=rows[instance_id].context if reference.context is None else reference.context,
            thought=rows[instance_id].thought,
            well_formed=rows[instance_id].well_formed,
        )
        for instance_id, reference in references.items()
    ]
