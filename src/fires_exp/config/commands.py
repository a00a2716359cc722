"""Configurations of the commands `score`, `export`, `chat` and `inspect`; the values are in `conf/<command>.yaml`.

A command composes its own root and shares groups (`dataset=`, `backbone=`, `metrics=` …) with training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hydra.core.config_store import ConfigStore

from fires_exp.config.schema import (
    AspectsConfig,
    BackboneConfig,
    DatasetConfig,
    EpitomeConfig,
    FramesConfig,
    MetricsConfig,
    PathsConfig,
    PredictConfig,
    PromptConfig,
    SamplingConfig,
    TrainerConfig,
    leaf,
)
from fires_exp.errors import ConfigError


@dataclass(kw_only=True)
class ScoreCommandConfig:
    predictions: Any = leaf('a JSONL file, or a list [a.jsonl,b.jsonl], with a line {"id", "response"} for each instance')
    references: str | None = leaf("a file of the same form; null takes `reference_response` from the predictions")
    scorer: str | None = leaf(
        "folder of trained EPITOME scorers (recipe=train_epitome) for DIFF-EPITOME; null trains them first, as `epitome` says"
    )
    output: str | None = leaf("folder for metrics.json and report.html; null only prints the table")
    seed: int = leaf("seed of the bootstrap, and of the EPITOME scorers where they are trained")
    metrics: MetricsConfig = leaf("what the table measures")
    epitome: EpitomeConfig = leaf("how EPITOME scorers are trained where `scorer` is null")
    trainer: TrainerConfig = leaf("the device")
    paths: PathsConfig = leaf("folders for artifacts and caches")

    def __post_init__(self) -> None:
        _check_one_process("score", self.trainer)
        files = self.prediction_files
        if not files or not all(isinstance(file, str) for file in files):
            raise ConfigError(f"predictions={self.predictions}: write a file, or [one.jsonl,another.jsonl]")

    @property
    def prediction_files(self) -> list[str]:
        """`predictions` as a list, also where it is a single file."""
        return list(self.predictions) if isinstance(self.predictions, list) else [self.predictions]


@dataclass(kw_only=True)
class ExportCommandConfig:
    adapter: str = leaf("RUN_FOLDER or RUN_FOLDER:POLICY; without a policy, the one that was trained last")
    output: str | None = leaf("a new folder for the model; null takes model/ in the run folder")
    backbone: BackboneConfig = leaf("its path and precision hold where the run has a backbone of this name; else the run's own")
    trainer: TrainerConfig = leaf("the device")
    paths: PathsConfig = leaf("folders for artifacts and caches")

    def __post_init__(self) -> None:
        _check_one_process("export", self.trainer)


@dataclass(kw_only=True)
class ChatCommandConfig:
    adapter: str | None = leaf("RUN_FOLDER or RUN_FOLDER:POLICY; null chats with the untrained backbone")
    web: bool = leaf("a page for a browser instead of the terminal")
    host: str = leaf("address that the page is served at; any other than 127.0.0.1 is reachable by others, without a password")
    port: int = leaf("port of the page; 0 takes a free one")
    max_video_megabytes: int = leaf("largest clip that the page accepts")
    decoding: SamplingConfig = leaf("how responses are decoded; temperature 0 is greedy, as in the evaluation")
    seed: int = leaf("seed of sampling, where decoding.temperature is above 0")
    backbone: BackboneConfig = leaf("the model; with `adapter`, the run's own, unless it has the same name")
    aspects: AspectsConfig = leaf("what is thought about; with `adapter`, the run's own are used")
    frames: FramesConfig = leaf("what is seen; with `adapter`, the run's own are used")
    prompt: PromptConfig = leaf("how a conversation is put to the model; with `adapter`, the run's own is used")
    trainer: TrainerConfig = leaf("the device")
    paths: PathsConfig = leaf("folders for artifacts and caches")

    def __post_init__(self) -> None:
        _check_one_process("chat", self.trainer)
        if not 0 <= self.port < 2**16:
            raise ConfigError(f"port={self.port}: write a number from 0 to {2**16 - 1}")
        if self.max_video_megabytes < 1:
            raise ConfigError(f"max_video_megabytes={self.max_video_megabytes}: write at least 1")


@dataclass(kw_only=True)
class InspectCommandConfig:
    output: str | None = leaf("folder for inspect.json; null only prints the facts")
    seed: int = leaf("seed of the draw, where dataset.limit is set")
    dataset: DatasetConfig = leaf("the dataset to look at")
    backbone: BackboneConfig = leaf("whose tokenizer and image processor count tokens")
    aspects: AspectsConfig = leaf("what the prompt asks to think about")
    frames: FramesConfig = leaf("which frames are counted")
    prompt: PromptConfig = leaf("how a conversation is put to the model")
    trainer: TrainerConfig = leaf("whether a progress bar is shown")
    paths: PathsConfig = leaf("folders for artifacts and caches")


@dataclass(kw_only=True)
class ModelConfig:
    """The part of a run's configuration that determines how its model reads and answers."""

    backbone: BackboneConfig = leaf("the model")
    aspects: AspectsConfig = leaf("what is thought about")
    frames: FramesConfig = leaf("what is seen")
    prompt: PromptConfig = leaf("how a conversation is put to the model")
    predict: PredictConfig = leaf("how the evaluation decoded")


COMMAND_CONFIGS: dict[str, type] = {
    "score": ScoreCommandConfig,
    "export": ExportCommandConfig,
    "chat": ChatCommandConfig,
    "inspect": InspectCommandConfig,
}


def register_command_schemas() -> None:
    """Store each command's schema under the name that its root in `conf/` starts with, such as `score_schema`."""
    for name, schema in COMMAND_CONFIGS.items():
        ConfigStore.instance().store(name=f"{name}_schema", node=schema)


def _check_one_process(command: str, trainer: TrainerConfig) -> None:
    if trainer.strategy != "single":
        raise ConfigError(
            f"trainer.strategy={trainer.strategy}: fires-exp {command} runs in one process; write trainer=cpu or trainer=gpu"
        )
