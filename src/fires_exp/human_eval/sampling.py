"""A study of two systems and its key: instances are drawn and sides shuffled by a seed."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fires_exp.errors import StudyError
from fires_exp.human_eval.history import context_only, read_histories
from fires_exp.human_eval.study import (
    POSITIONS,
    QUESTIONS,
    Item,
    Key,
    KeyItem,
    Position,
    ShownAnswer,
    ShownTurn,
    Side,
    Study,
)
from fires_exp.human_eval.systems import Prediction, System


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """The settings of a draw. `full_history` needs at least one system that is from a run."""

    count: int
    seed: int
    full_history: bool


def draw_study(first: System, second: System, draw: Draw) -> tuple[Study, Key]:
    """The same files and seed give the same study. Raises `StudyError` where the systems share too few instances."""
    if first.sha256 == second.sha256:
        raise StudyError(f"{first.file} and {second.file} hold the same predictions; name two systems")
    chosen = _chosen(first, second, draw)
    secret = f"{draw.seed}/{first.sha256}/{second.sha256}"  # raters have no predictions file, so they cannot reproduce the sides
    sides = _sides(len(chosen), secret)
    histories = _histories(first, second, chosen, draw)
    questions = tuple(question for question in QUESTIONS if question.about == "response" or (first.thinks and second.thinks))
    items, key_items = [], {}
    for number, (prediction, side_a) in enumerate(zip(chosen, sides, strict=True), start=1):
        answers = {"first": _answer(prediction), "second": _answer(second.predictions[prediction.id])}
        side_b = "second" if side_a == "first" else "first"
        shown: dict[Side, ShownAnswer] = {"A": answers[side_a], "B": answers[side_b]}
        name = f"i{number:03d}"
        items.append(Item(name=name, history=histories[prediction.id], answers=shown))
        key_items[name] = KeyItem(instance=prediction.id, side_a=side_a)
    study = Study(id=_study_id(items), questions=questions, items=tuple(items))
    key = Key(
        study=study.id,
        seed=draw.seed,
        systems={"first": first.name, "second": second.name},
        files={"first": str(first.file), "second": str(second.file)},
        questions=tuple(question.name for question in questions),
        items=key_items,
    )
    return study, key


def _chosen(first: System, second: System, draw: Draw) -> list[Prediction]:
    shared = [prediction for name, prediction in first.predictions.items() if name in second.predictions]
    if draw.count < 1 or draw.count > len(shared):
        raise StudyError(
            f"--count {draw.count}: {first.file} and {second.file} share {len(shared)} instances; "
            + (f"write a number from 1 to {len(shared)}" if shared else "name two systems that answered the same split")
        )
    for prediction in shared:
        context = second.predictions[prediction.id].context
        if prediction.context and context and prediction.context != context:
            raise StudyError(
                f"instance {prediction.id} answers different turns in {first.file} and {second.file}; compare runs on one dataset"
            )
    return random.Random(draw.seed).sample(sorted(shared, key=lambda prediction: prediction.id), draw.count)  # noqa: S311  a draw


def _sides(count: int, secret: str) -> list[Position]:
    """The system on side A of each item: both equally often, or one once more where the count is odd."""
    generator = random.Random(secret)  # noqa: S311  a draw
    sides = [*POSITIONS] * (count // 2)
    if count % 2:
        sides.append(generator.choice(POSITIONS))
    generator.shuffle(sides)
    return sides


def _histories(first: System, second: System, chosen: list[Prediction], draw: Draw) -> Mapping[str, tuple[ShownTurn, ...]]:
    if not draw.full_history:
        return {prediction.id: context_only(prediction) for prediction in chosen}
    run_folders = [system.run_folder for system in (first, second) if system.run_folder is not None]
    if not run_folders:
        raise StudyError(
            "neither system is from a run folder, so there is no history to read; name a run, or write --context-only"
        )
    return read_histories(run_folders, chosen)


def _answer(prediction: Prediction) -> ShownAnswer:
    return ShownAnswer(response=prediction.response, thought=prediction.thought)


def _study_id(items: Iterable[Item]) -> str:
    return hashlib.sha256(repr(list(items)).encode()).hexdigest()[:12]
