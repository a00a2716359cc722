"""A trained baseline as two stages: its training on hints and reference responses, and its predictions."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from fires_exp.baselines.interface import TrainedBaseline
from fires_exp.baselines.labels import check_labels
from fires_exp.baselines.models import BackboneBaseline, Seq2SeqBaseline, TrainableModel, WrittenText
from fires_exp.baselines.registry import configured_baseline
from fires_exp.config.scoring import PredictConfig
from fires_exp.config.training import SftConfig
from fires_exp.data.instances import Instances
from fires_exp.data.records import SupportExample
from fires_exp.errors import ConfigError
from fires_exp.pipeline.planner import Planner
from fires_exp.pipeline.stage import Stage
from fires_exp.pipeline.stages.hints import HintsStage, read_hints
from fires_exp.pipeline.stages.predictions import parsed_row, predict_all, publish_predictions
from fires_exp.pipeline.stages.sft import sft_instances
from fires_exp.storage.artifacts import Artifact
from fires_exp.thinking.tags import ParsedCompletion
from fires_exp.training.fit import FACTS, TrainingLoop

log = logging.getLogger("fires_exp.pipeline")


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedBaselineStage(Stage):
    """The weights of a baseline that is trained like FIRES. `model` is the model that it is trained on; `hints` may be None."""

    name: ClassVar[str] = "train_baseline"
    on_all_ranks: ClassVar[bool] = True
    logs_steps: ClassVar[bool] = True
    memory_settings: ClassVar[tuple[str, ...]] = ("sft.micro_batch_size", "sft.gradient_checkpointing")

    baseline: TrainedBaseline
    model: TrainableModel
    config: SftConfig
    train: Instances
    validation: Instances
    hints: HintsStage | None
    loop: TrainingLoop
    seed: int
    accelerator: str

    @classmethod
    def plan(cls, planner: Planner) -> None:
        config = planner.config
        baseline = configured_baseline(config.trained_baseline)
        if baseline is None:
            raise ConfigError(
                f"recipe={config.recipe.name} with trained_baseline={config.trained_baseline.name}: there is nothing to train; "
                "write trained_baseline=smes, smes_qwen, blenderbot_joint or bbmhr"
            )
        train, validation = sft_instances(planner)
        both = Instances(
            dataset=train.dataset,
            split="train",
            examples=(*train.examples, *validation.examples),
            video_root=train.video_root,
        )
        planner.add(
            cls(
                artifacts=planner.artifacts,
                baseline=baseline,
                model=_model(planner, baseline),
                config=config.sft,
                train=train,
                validation=validation,
                hints=HintsStage.of(planner, baseline.hint, both) if baseline.hint else None,
                loop=planner.loop,
                seed=config.seed,
                accelerator=planner.device.type,
            )
        )

    @property
    def needs(self) -> tuple[Stage, ...]:
        return (self.hints,) if self.hints else ()

    def key_inputs(self) -> dict[str, Any]:
        settings = asdict(self.config)
        del settings["checkpoint_every_steps"]
        return {
            "baseline": self.baseline.name,
            "model": self.model.key_inputs(),
            "seed": self.seed,
            "accelerator": self.accelerator,
            "train": self.train.identity(with_frames=False),
            "validation": self.validation.identity(with_frames=False),
            "sft": settings,
        }

    def check(self) -> None:
        """Raises `DataError` where a label that the baseline needs is missing, and an error for a model that cannot be loaded."""
        examples = (*self.train.examples, *self.validation.examples)
        check_labels(self.baseline.name, self.baseline.required_labels, examples, self.train.dataset)
        self.model.check()

    def build(self, folder: Path) -> None:
        train, validation = self.train.examples, self.validation.examples
        self.model.train(folder, train, validation, _hints_by_id(self.hints, (*train, *validation)), self.loop)

    def publish(self, artifact: Artifact, run_folder: Path) -> None:
        facts = json.loads((artifact.folder / FACTS).read_text())
        log.info("%s trained %s parameters in %d steps", self.baseline.name, f"{facts['trainable_parameters']:,}", facts["steps"])


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedBaselinePredictions(Stage):
    """A trained baseline's texts for the instances of `test`. The key `said` of a row has the labels that it wrote."""

    name: ClassVar[str] = "predictions"
    on_all_ranks: ClassVar[bool] = True
    memory_settings: ClassVar[tuple[str, ...]] = ("predict.batch_size",)

    policy: str
    trained: TrainedBaselineStage
    test: Instances
    hints: HintsStage | None
    config: PredictConfig
    progress: bool

    @classmethod
    def plan_policy(cls, planner: Planner, policy: str) -> Stage:
        trained = planner.find(TrainedBaselineStage)
        assert trained is not None, "the recipe's stages are checked when the configuration is loaded"
        hint, test = trained.baseline.hint, planner.test
        return planner.add(
            cls(
                artifacts=planner.artifacts,
                policy=policy,
                trained=trained,
                test=test,
                hints=HintsStage.of(planner, hint, test) if hint else None,
                config=planner.config.predict,
                progress=planner.config.trainer.progress,
            )
        )

    @property
    def label(self) -> str:
        return f"predictions of {self.policy}"

    @property
    def needs(self) -> tuple[Stage, ...]:
        return (self.trained, self.hints) if self.hints else (self.trained,)

    def key_inputs(self) -> dict[str, Any]:
        return {"test": self.test.identity(with_frames=False), "predict": asdict(self.config)}

    def build(self, folder: Path) -> None:
        examples = self.test.examples
        write = self.trained.model.writer(self.trained.folder, examples, _hints_by_id(self.hints, examples))

        def predict(batch: Sequence[SupportExample]) -> list[dict[str, Any]]:
            return [_row(self.trained.baseline, example, text) for example, text in zip(batch, write(batch), strict=True)]

        predict_all(self.test, folder, predict, batch_size=self.config.batch_size, progress=self.progress)

    def publish(self, artifact: Artifact, run_folder: Path) -> None:
        publish_predictions(artifact, run_folder, self.policy)

    def table_facts(self) -> dict[str, Any]:
        return {"baseline": self.trained.baseline.name}


def _model(planner: Planner, baseline: TrainedBaseline) -> TrainableModel:
    config = planner.config
    if config.trained_baseline.model == "seq2seq":
        return Seq2SeqBaseline(
            baseline=baseline,
            sft=config.sft,
            predict=config.predict,
            seed=config.seed,
            seq2seq=config.seq2seq,
            cache=planner.cache,
            device=planner.device,
        )
    return BackboneBaseline(baseline=baseline, sft=config.sft, predict=config.predict, seed=config.seed, policies=planner.factory)


def _hints_by_id(hints: HintsStage | None, examples: Sequence[SupportExample]) -> Mapping[str, Sequence[str]]:
    """One text a turn for each instance, empty ones without hints."""
    return read_hints(hints.folder) if hints else {example.id: [""] * len(example.history) for example in examples}


def _row(baseline: TrainedBaseline, example: SupportExample, written: WrittenText) -> dict[str, Any]:
    reading = baseline.parse(written.text)
    parsed = ParsedCompletion(thought="", response=reading.response, well_formed=reading.well_formed)
    return {**parsed_row(example, written.text, written.finish_reason, parsed), "said": dict(reading.labels)}
