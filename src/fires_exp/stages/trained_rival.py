"""A rival as the sft stage: hints and references in, an adapter or a whole model out; and its answers as predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fires_exp.data.read import content_hash
from fires_exp.data.records import SupportExample
from fires_exp.rivals.labels import check_labels
from fires_exp.rivals.registry import RIVALS
from fires_exp.rivals.rival import TrainedRival
from fires_exp.stages.artefact import Artefact, code_hash
from fires_exp.stages.hints import make_hints, read_hints
from fires_exp.stages.predict import answer_all, parsed_row
from fires_exp.stages.rival_models import BackboneRival, RivalModel, Seq2SeqRival
from fires_exp.stages.sft import drawn_fraction
from fires_exp.stages.workspace import Workspace
from fires_exp.thinking.tags import ParsedCompletion

RIVAL_CODE = ("data", "prompts", "policy", "rivals/labels.py", "rivals/rival.py", "stages/rival_models.py")
TRAINING_CODE = (
    "modules/batches.py",
    "modules/ranks.py",
    "modules/training.py",
    "modules/likelihood.py",
    "modules/sft.py",
    "modules/seq2seq.py",
    "stages/fit.py",
    "stages/strategies.py",
)


def check_trained_rival(work: Workspace) -> None:
    """Raises `DataError` where a label that the rival needs is missing, and what is wrong with its model."""
    rival = _rival(work)
    examples, validation = _learned_from(work)
    check_labels(rival.name, rival.needs, (*examples, *validation), work.dataset.name)
    _model(work).check()


def make_trained_rival(work: Workspace) -> Artefact:
    """The rival of `trained_rival.name`, trained."""
    rival, model = _rival(work), _model(work)
    config = work.config.sft
    examples, validation = _learned_from(work)
    hints = make_hints(work, rival.hint, work.dataset, (*examples, *validation)) if rival.hint else None
    settings = asdict(config)
    del settings["checkpoint_every_steps"]
    depends_on = {
        **_inputs(work, model),
        "examples": content_hash((*examples, *validation), None),
        "hints": hints.key if hints else None,
        "sft": settings,
        "code": code_hash(*RIVAL_CODE, f"rivals/{rival.name}.py", *TRAINING_CODE),
    }

    def build(folder: Path) -> None:
        model.train(folder, examples, validation, _told(hints, (*examples, *validation)))

    return work.make("sft", depends_on, build, together=True)


def predict_trained_rival(work: Workspace, trained: Artefact) -> Artefact:
    """What the trained rival answers to the test instances; `said` in a row are the labels that it wrote."""
    rival, model, examples = _rival(work), _model(work), work.test_examples
    hints = make_hints(work, rival.hint, work.test_dataset, examples) if rival.hint else None
    depends_on = {
        **_inputs(work, model),
        "examples": content_hash(examples, None),
        "hints": hints.key if hints else None,
        "trained": trained.key,
        "predict": asdict(work.config.predict),
        "code": code_hash(*RIVAL_CODE, f"rivals/{rival.name}.py", "modules/ranks.py", "stages/predict.py"),
    }

    def build(folder: Path) -> None:
        write = model.writer(trained.folder, _told(hints, examples))

        def answer(batch: Sequence[SupportExample]) -> list[dict[str, Any]]:
            return [_row(rival, example, *written) for example, written in zip(batch, write(batch), strict=True)]

        answer_all(work, folder, answer)

    return work.make("predictions", depends_on, build, together=True)


def _learned_from(work: Workspace) -> tuple[Sequence[SupportExample], Sequence[SupportExample]]:
    """Instances to train on, and those whose loss is logged."""
    config = work.config.sft
    examples = drawn_fraction(work.examples("train"), config.fraction, work.config.seed)
    return examples, work.dataset.examples["val"] if config.validate_every_steps is not None else ()


def _rival(work: Workspace) -> TrainedRival:
    return RIVALS[work.config.trained_rival.name]


def _model(work: Workspace) -> RivalModel:
    kind = BackboneRival if work.config.trained_rival.model == "backbone" else Seq2SeqRival
    return kind(work, _rival(work))


def _inputs(work: Workspace, model: RivalModel) -> dict[str, Any]:
    return {
        "seed": work.config.seed,
        "accelerator": work.device.type,
        "rival": asdict(work.config.trained_rival),
        "model": model.identity(),
    }


def _told(hints: Artefact | None, examples: Sequence[SupportExample]) -> Mapping[str, Sequence[str]]:
    return read_hints(hints.folder) if hints else {example.id: [""] * len(example.history) for example in examples}


def _row(rival: TrainedRival, example: SupportExample, text: str, finish_reason: str) -> dict[str, Any]:
    reading = rival.read(text)
    parsed = ParsedCompletion(thought="", response=reading.response, well_formed=reading.well_formed)
    return {**parsed_row(example, text, finish_reason, parsed), "said": dict(reading.said)}
