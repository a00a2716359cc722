"""Configurations of the commands `score`, `export`, `chat` and `inspect`; the values are in `conf/<command>.yaml`.

A command composes its own root and shares groups (`dataset=`, `backbone=`, `metrics=` …) with training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore

from fires_exp.config.data import DatasetConfig, FramesConfig
from fires_exp.config.field import Group, setting
from fires_exp.config.model import AspectsConfig, BackboneConfig, PromptConfig, SamplingConfig
from fires_exp.config.root import PathsConfig
from fires_exp.config.scoring import EpitomeConfig, MetricsConfig, PredictConfig
from fires_exp.config.training import Strategy, TrainerConfig


@dataclass(kw_only=True)
class ScoreCommandConfig(Group):
    predictions: Any = setting('a JSONL file, or a list [a.jsonl,b.jsonl], with a line {"id", "response"} for each instance')
    references: str | None = setting("a file of the same form; null takes `reference_response` from the predictions")
    scorer: str | None = setting(
        "folder of trained EPITOME scorers (recipe=train_epitome) for DIFF-EPITOME; null trains them first, as `epitome` says"
    )
    output: str | None = setting("folder for metrics.json and report.html; null only prints the table")
    seed: int = setting("seed of the bootstrap, and of the EPITOME scorers where they are trained", ge=0, lt=2**32)
    metrics: MetricsConfig = setting("what the table measures")
    epitome: EpitomeConfig = setting("how EPITOME scorers are trained where `scorer` is null")
    trainer: TrainerConfig = setting("the device")
    paths: PathsConfig = setting("folders for artifacts and caches")

    def problems(self, key: str) -> Iterator[str]:
        yield from _more_than_one_process("score", self.trainer)
        files = self.prediction_files
        if not files or not all(isinstance(file, str) for file in files):
            yield f"predictions={self.predictions}: write a file, or [one.jsonl,another.jsonl]"

    @property
    def prediction_files(self) -> list[str]:
        """`predictions` as a list, also where it is a single file."""
        return list(self.predictions) if isinstance(self.predictions, list) else [self.predictions]


@dataclass(kw_only=True)
class ExportCommandConfig(Group):
    adapter: str = setting("RUN_FOLDER or RUN_FOLDER:POLICY; without a policy, the one that was trained last")
    output: str | None = setting("a new folder for the model; null takes model/ in the run folder")
    backbone: BackboneConfig = setting(
        "its path and precision are used if the run has a backbone of this name; else the run's own"
    )
    trainer: TrainerConfig = setting("the device")
    paths: PathsConfig = setting("folders for artifacts and caches")

    def problems(self, key: str) -> Iterator[str]:
        yield from _more_than_one_process("export", self.trainer)


@dataclass(kw_only=True)
class ChatCommandConfig(Group):
    adapter: str | None = setting("RUN_FOLDER or RUN_FOLDER:POLICY; null chats with the untrained backbone")
    web: bool = setting("a page for a browser instead of the terminal")
    host: str = setting("address that the page is served at; any other than 127.0.0.1 is reachable by others, without a password")
    port: int = setting("port of the page; 0 takes a free one", ge=0, le=65535)
    max_video_megabytes: int = setting("largest clip that the page accepts", ge=1)
    decoding: SamplingConfig = setting("how responses are decoded; temperature 0 is greedy, as in the evaluation")
    seed: int = setting("seed of sampling, where decoding.temperature is above 0", ge=0, lt=2**32)
    backbone: BackboneConfig = setting("the model; with `adapter`, the run's own, unless it has the same name")
    aspects: AspectsConfig = setting("what is thought about; with `adapter`, the run's own are used")
    frames: FramesConfig = setting("what is seen; with `adapter`, the run's own are used")
    prompt: PromptConfig = setting("how a conversation is put to the model; with `adapter`, the run's own is used")
    trainer: TrainerConfig = setting("the device")
    paths: PathsConfig = setting("folders for artifacts and caches")

    def problems(self, key: str) -> Iterator[str]:
        yield from _more_than_one_process("chat", self.trainer)


@dataclass(kw_only=True)
class InspectCommandConfig(Group):
    output: str | None = setting("folder for inspect.json; null only prints the facts")
    seed: int = setting("seed of the draw, where dataset.limit is set", ge=0, lt=2**32)
    dataset: DatasetConfig = setting("the dataset to look at")
    backbone: BackboneConfig = setting("whose tokenizer and image processor count tokens")
    aspects: AspectsConfig = setting("what the prompt asks to think about")
    frames: FramesConfig = setting("which frames are counted")
    prompt: PromptConfig = setting("how a conversation is put to the model")
    trainer: TrainerConfig = setting("whether a progress bar is shown")
    paths: PathsConfig = setting("folders for artifacts and caches")


@dataclass(kw_only=True)
class ModelConfig(Group):
    """The part of a run's configuration that determines how its model reads and answers."""

    backbone: BackboneConfig = setting("the model")
    aspects: AspectsConfig = setting("what is thought about")
    frames: FramesConfig = setting("what is seen")
    prompt: PromptConfig = setting("how a conversation is put to the model")
    predict: PredictConfig = setting("how the evaluation decoded")


COMMAND_CONFIGS: dict[str, type[Group]] = {
    "score": ScoreCommandConfig,
    "export": ExportCommandConfig,
    "chat": ChatCommandConfig,
    "inspect": InspectCommandConfig,
}


def register_command_schemas() -> None:
    """Store each command's schema under the name that its root in `conf/` starts with, such as `score_schema`."""
    for name, schema in COMMAND_CONFIGS.items():
        ConfigStore.instance().store(name=f"{name}_schema", node=schema)


def _more_than_one_process(command: str, trainer: TrainerConfig) -> Iterator[str]:
    if trainer.strategy != Strategy.single:
        yield f"trainer.strategy={trainer.strategy}: fires-exp {command} runs in one process; write trainer=cpu or trainer=gpu"
