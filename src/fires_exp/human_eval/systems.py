"""The two systems of a study: their predictions and run folders."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fires_exp.errors import StudyError
from fires_exp.storage.json_input import parse_json

PREDICTIONS = "predictions"  # the folder of a run with a file for each policy


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """The fields of a predictions file that a study uses. `context` is the seeker's last turn."""

    id: str
    context: str
    thought: str
    response: str


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """Predictions by instance id, in the order of the file; `run_folder` is None for a file outside of a run."""

    name: str
    file: Path
    sha256: str
    run_folder: Path | None
    predictions: Mapping[str, Prediction]

    @property
    def thinks(self) -> bool:
        return any(prediction.thought for prediction in self.predictions.values())


def read_system(argument: str) -> System:
    """Read a system from a predictions file, from a run folder (its last policy), or from `RUN_FOLDER:POLICY`. Raises
    `StudyError`."""
    path = Path(argument)
    folder, _, policy = argument.rpartition(":")
    if path.is_file():
        return _read(path)
    if path.is_dir():
        return _read(_prediction_file(path, ""))
    if folder and Path(folder).is_dir():
        return _read(_prediction_file(Path(folder), policy))
    raise StudyError(f"{argument}: no such file or folder; name a predictions .jsonl, a run folder, or RUN_FOLDER:POLICY")


def run_config(run_folder: Path) -> dict[str, Any]:
    """A run's resolved configuration, unchecked: an older run may lack keys that a study does not need."""
    path = run_folder / "resolved.yaml"
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, yaml.YAMLError):
        tree = None
    if not isinstance(tree, dict):
        raise StudyError(f"{path}: no YAML of a run; name another run, or copy the predictions elsewhere and name the file")
    return tree


def _prediction_file(run_folder: Path, policy: str) -> Path:
    files = {path.stem: path for path in sorted((run_folder / PREDICTIONS).glob("*.jsonl"))}
    if not files:
        raise StudyError(f"{run_folder} has no predictions/*.jsonl; name a run that ended with recipe stage evaluate")
    if not policy:
        planned = run_config(run_folder).get("recipe", {}).get("policies", []) if (run_folder / "resolved.yaml").is_file() else []
        policy = next((name for name in reversed(planned) if name in files), "")
    if policy not in files:
        raise StudyError(f"{run_folder}: write {run_folder}:POLICY, POLICY being one of {', '.join(files)}")
    return files[policy]


def _read(path: Path) -> System:
    content = path.read_bytes()
    predictions: dict[str, Prediction] = {}
    for number, line in enumerate(content.decode("utf-8", errors="replace").split("\n"), start=1):
        if line.strip():
            prediction = _prediction(line, f"{path}:{number}")
            if prediction.id in predictions:
                raise StudyError(f"{path}:{number}: instance {prediction.id} occurs twice; keep one line of each instance")
            predictions[prediction.id] = prediction
    run_folder = path.parent.parent
    of_run = path.parent.name == PREDICTIONS and (run_folder / "resolved.yaml").is_file()
    return System(
        name=f"{run_config(run_folder).get('name', run_folder.name)} ({path.stem})" if of_run else path.stem,
        file=path,
        sha256=hashlib.sha256(content).hexdigest(),
        run_folder=run_folder if of_run else None,
        predictions=predictions,
    )


def _prediction(line: str, location: str) -> Prediction:
    try:
        row: Any = parse_json(line)
    except ValueError as error:
        raise StudyError(f"{location}: no JSON ({error}); a predictions file has one object a line") from None
    texts = {name: row.get(name, "") for name in ("id", "context", "thought", "response")} if isinstance(row, dict) else {}
    wrong = [name for name, text in texts.items() if not isinstance(text, str)]
    if not texts or wrong or not texts["id"] or "response" not in row:
        raise StudyError(
            f'{location}: a prediction needs "id" and "response" (and may have "thought" and "context"), all strings'
        )
    return Prediction(**texts)
