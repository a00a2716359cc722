"""A baseline as the sft stage: hints and references in, an adapter or a whole model out; and its answers as predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fires_exp.baselines.interface import TrainedBaseline
from fires_exp.baselines.labels import check_labels
from fires_exp.baselines.models import BackboneBaseline, BaselineModel, Seq2SeqBaseline, WrittenText
from fires_exp.baselines.registry import configured_baseline
from fires_exp.data.dataset import content_hash
from fires_exp.data.records import SupportExample
from fires_exp.pipeline.stages.hints import make_hints, read_hints
from fires_exp.pipeline.stages.predictions import answer_all, parsed_row
from fires_exp.pipeline.stages.sft import drawn_fraction
from fires_exp.pipeline.workspace import Workspace
from fires_exp.policy.factory import PolicyFactory
from fires_exp.storage.artifacts import Artifact
from fires_exp.storage.code_fingerprint import code_fingerprint
from fires_exp.thinking.tags import ParsedCompletion
from fires_exp.training.fit import fit, take_steps

BASELINE_CODE = ("data", "prompts", "policy", "baselines/labels.py", "baselines/baseline.py", "stages/baseline_models.py")
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


def check_trained_baseline(work: Workspace) -> None:
    """Raises `DataError` where a label that the baseline needs is missing, and what is wrong with its model."""
    baseline = _baseline(work)
    examples, validation = _learned_from(work)
    check_labels(baseline.name, baseline.required_labels, (*examples, *validation), work.dataset.name)
    _model(work).check()


def make_trained_baseline(work: Workspace) -> Artifact:
    """The baseline of `trained_baseline.name`, trained."""
    baseline, model = _baseline(work), _model(work)
    config = work.config.sft
    examples, validation = _learned_from(work)
    hints = make_hints(work, baseline.hint, work.dataset, (*examples, *validation)) if baseline.hint else None
    settings = asdict(config)
    del settings["checkpoint_every_steps"]
    depends_on = {
        **_inputs(work, model),
        "examples": content_hash((*examples, *validation), None),
        "hints": hints.key if hints else None,
        "sft": settings,
        "code": code_fingerprint("pipeline.stages.trained_baseline"),
    }

    def build(folder: Path) -> None:
        model.train(folder, examples, validation, _told(hints, (*examples, *validation)), _Loop(work))

    return work.make("sft", depends_on, build, together=True)


def predict_trained_baseline(work: Workspace, trained: Artifact) -> Artifact:
    """What the trained baseline answers to the test instances; `said` in a row are the labels that it wrote."""
    baseline, model, examples = _baseline(work), _model(work), work.test_examples
    hints = make_hints(work, baseline.hint, work.test_dataset, examples) if baseline.hint else None
    depends_on = {
        **_inputs(work, model),
        "examples": content_hash(examples, None),
        "hints": hints.key if hints else None,
        "trained": trained.key,
        "predict": asdict(work.config.predict),
        "code": code_fingerprint("pipeline.stages.trained_baseline"),
    }

    def build(folder: Path) -> None:
        write = model.writer(trained.folder, examples, _told(hints, examples))

        def answer(batch: Sequence[SupportExample]) -> list[dict[str, Any]]:
            return [_row(baseline, example, written) for example, written in zip(batch, write(batch), strict=True)]

        answer_all(work, folder, answer)

    return work.make("predictions", depends_on, build, together=True)


def _learned_from(work: Workspace) -> tuple[Sequence[SupportExample], Sequence[SupportExample]]:
    """Instances to train on, and those whose loss is logged."""
    config = work.config.sft
    examples = drawn_fraction(work.examples("train"), config.fraction, work.config.seed)
    return examples, work.dataset.examples["val"] if config.validate_every_steps is not None else ()


def _baseline(work: Workspace) -> TrainedBaseline:
    baseline = configured_baseline(work.config.trained_baseline)
    assert baseline is not None
    return baseline


def _model(work: Workspace) -> BaselineModel:
    config = work.config
    settings = {"baseline": _baseline(work), "sft": config.sft, "predict": config.predict, "seed": config.seed}
    if config.trained_baseline.model == "seq2seq":
        return Seq2SeqBaseline(**settings, seq2seq=config.seq2seq, cache=work.cache, device=work.device)  # type: ignore[arg-type]
    policies = PolicyFactory(
        backbone=config.backbone, frames=config.frames, prompt=config.prompt, plan=work.plan, cache=work.cache, device=work.device
    )
    return BackboneBaseline(**settings, policies=policies)  # type: ignore[arg-type]


class _Loop:
    """The training loop of a run's configuration and folder."""

    def __init__(self, work: Workspace) -> None:
        self._work = work
        self.trainer = work.config.trainer

    def fit(self, module: Any, loader: Any, folder: Path, **settings: Any) -> None:
        fit(module, loader, folder, self._work.config, run_folder=self._work.run_folder, **settings)

    def take_steps(self, module: Any, loader: Any, folder: Path, **settings: Any) -> None:
        take_steps(module, loader, folder, self._work.config, run_folder=self._work.run_folder, **settings)


def _inputs(work: Workspace, model: BaselineModel) -> dict[str, Any]:
    return {
        "seed": work.config.seed,
        "accelerator": work.device.type,
        "baseline": asdict(work.config.trained_baseline),
        "model": model.key_inputs(),
    }


def _told(hints: Artifact | None, examples: Sequence[SupportExample]) -> Mapping[str, Sequence[str]]:
    return read_hints(hints.folder) if hints else {example.id: [""] * len(example.history) for example in examples}


def _row(baseline: TrainedBaseline, example: SupportExample, written: WrittenText) -> dict[str, Any]:
    output = baseline.parse(written.text)
    parsed = ParsedCompletion(thought="", response=output.response, well_formed=output.well_formed)
    return {**parsed_row(example, written.text, written.finish_reason, parsed), "said": dict(output.labels)}
