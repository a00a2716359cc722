"""Predictions from files, ours or anybody's, against references: `recipe=score predictions=… references=…`.

A line is {"id", "response"}, with "context" (the last seeker turn) in either file where DIFF-EPITOME is wanted. Predictions of
our own runs are read too: they bring their references and contexts along, and whether an answer was well-formed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fires_exp.errors import ScoreError
from fires_exp.metrics.measures import ScoredResponse
from fires_exp.metrics.rows import MetricsTable
from fires_exp.pipeline.evaluation import evaluate_answers
from fires_exp.pipeline.workspace import Workspace
from fires_exp.scores.epitome.levels import SupportSkillScorer
from fires_exp.storage.files import write_atomically
from fires_exp.storage.json_input import parse_json

# what a line may hold and of what kind it is; the first two it must hold
KINDS: Mapping[str, type] = {
    "id": str,
    "response": str,
    "context": str,
    "thought": str,
    "reference_response": str,
    "well_formed": bool,
}
NEEDED = ("id", "response")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A line of a file; `where` is `file:line`, keys that it lacks are None."""

    where: str
    response: str
    context: str | None
    thought: str | None
    reference_response: str | None
    well_formed: bool | None


def score(work: Workspace, run_folder: Path, find_scorer: Callable[[], SupportSkillScorer]) -> MetricsTable:
    """Score the configured files and write `metrics.json` into the run folder. The scorer of support skills, which may have to be
    trained first, is asked for where DIFF-EPITOME is wanted and every instance has a context."""
    config = work.config
    files = [config.predictions] if isinstance(config.predictions, str) else config.predictions
    systems = read_systems(files, config.references)
    known = all(answer.context is not None for answers in systems.values() for answer in answers)
    scorer = find_scorer() if known and "diff_epitome" in config.metrics.include else None
    table = evaluate_answers(work, systems, scorer)
    facts = {
        "name": config.name,
        "predictions": dict(zip(systems, files, strict=True)),
        "references": config.references,
        "scorer": scorer.name if scorer else None,
        "instances": len(next(iter(systems.values()))),
        **table.as_json(),
    }
    write_atomically(run_folder / "metrics.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    return table


def read_systems(predictions: Sequence[str], references: str | None) -> dict[str, list[ScoredResponse]]:
    """Each file's answers in the order of the references, by the file's name without its ending, or by its path where two have
    one name. Without references the first file's own `reference_response` are taken.

    Raises `ScoreError` where a file can't be read, or where files do not tell of the same instances.
    """
    files = [Path(name).expanduser() for name in predictions]
    lines = {file: read_lines(file) for file in files}
    if len(lines) < len(files):
        raise ScoreError(f"predictions={list(predictions)}: a file stands there twice; name each once")
    if references is None:
        origin, expected = files[0], _own_references(lines)
    else:
        origin = Path(references).expanduser()
        expected = read_lines(origin)
    stems = [file.stem for file in files]
    names = [file.stem if stems.count(file.stem) == 1 else str(file.with_suffix("")) for file in files]
    return {name: _matched(file, lines[file], origin, expected) for name, file in zip(names, files, strict=True)}


def read_lines(file: Path) -> dict[str, Line]:
    """A file's lines by id. Raises `ScoreError`, which names the line, where one is no JSON object, lacks a key, holds one of
    another kind than it should be, or repeats an id."""
    try:
        texts = file.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise ScoreError(f"{file}: {error.strerror or error}; name a .jsonl file") from None
    except UnicodeDecodeError as error:
        raise ScoreError(f"{file}: no UTF-8 at byte {error.start}; save it as UTF-8") from None
    lines: dict[str, Line] = {}
    for number, text in enumerate(texts, start=1):
        if text.strip():
            where = f"{file}:{number}"
            found = _checked(text, where)
            name = found.pop("id")
            if name in lines:
                raise ScoreError(f"{where}: id {name} stands there again, after {lines[name].where}; leave one line")
            lines[name] = Line(where=where, **found)
    if not lines:
        raise ScoreError(f'{file}: no lines; write {{"id", "response"}} for each instance')
    return lines


def _checked(text: str, where: str) -> dict[str, Any]:
    try:
        row = parse_json(text)
    except ValueError as error:
        raise ScoreError(f'{where}: no JSON ({error}); write one object a line, {{"id": …, "response": …}}') from None
    if not isinstance(row, dict):
        raise ScoreError(f'{where}: no object; write {{"id": …, "response": …}}')
    for key in NEEDED:
        if row.get(key) is None:
            raise ScoreError(f'{where}: no "{key}"; a line needs {" and ".join(NEEDED)}')
    found = {key: row.get(key) for key in KINDS}
    for key, kind in KINDS.items():
        if found[key] is not None and not isinstance(found[key], kind):
            wanted = "a text" if kind is str else "true or false"
            raise ScoreError(f'{where}: "{key}" is {json.dumps(found[key])}; write {wanted}')
    return found


def _own_references(lines: Mapping[Path, Mapping[str, Line]]) -> dict[str, Line]:
    """The references that runs' predictions carry, as lines of their own: the first file's, with which the others must agree."""
    references: dict[str, Line] = {}
    for place, of_file in enumerate(lines.values()):
        for name, line in of_file.items():
            if line.reference_response is None:
                raise ScoreError(f'{line.where}: no "reference_response" of its own; write references=<file>')
            if place == 0:
                references[name] = replace(line, response=line.reference_response)
            elif name in references and line.reference_response != references[name].response:
                raise ScoreError(
                    f"{line.where}: another reference_response than {references[name].where}; write references=<file>"
                )
    return references


def _matched(file: Path, lines: Mapping[str, Line], origin: Path, references: Mapping[str, Line]) -> list[ScoredResponse]:
    """The answers in the order of the references; exactly the same ids must stand in both."""
    for name, line in lines.items():
        if name not in references:
            raise ScoreError(f"{line.where}: id {name} is not in {origin}; take the line out, or add its reference")
    missing = [name for name in references if name not in lines]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ScoreError(
            f"{file}: no line for id {missing[0]} ({references[missing[0]].where}){more}; add it (an empty response counts)"
        )
    answers = []
    for name, reference in references.items():
        line = lines[name]
        answers.append(
            ScoredResponse(
                response=line.response,
                reference=reference.response,
                context=line.context if reference.context is None else reference.context,
                thought=line.thought,
                well_formed=line.well_formed,
            )
        )
    return answers
