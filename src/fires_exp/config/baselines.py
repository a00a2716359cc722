"""Keys of the baselines: systems that FIRES is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from fires_exp.config.field import Group, setting
from fires_exp.config.model import BackboneConfig, SamplingConfig
from fires_exp.config.services import ServiceConfig


class TrainedBaselineName(StrEnum):
    none = "none"
    smes = "smes"
    blenderbot_joint = "blenderbot_joint"
    bbmhr = "bbmhr"


class BaselineModel(StrEnum):
    backbone = "backbone"
    seq2seq = "seq2seq"


class Seq2SeqSource(StrEnum):
    hub = "hub"
    tiny = "tiny"


@dataclass(kw_only=True)
class BaselineConfig(ServiceConfig):
    """A model behind a service that answers without training."""

    GROUP: ClassVar[str] = "baseline"

    shots: int = setting(
        "worked examples before each instance, a seeded sample of the train split, the same for all instances", ge=0
    )
    frames_in_shots: bool = setting("also send the frames of the worked examples")


@dataclass(kw_only=True)
class TrainedBaselineConfig(Group):
    name: TrainedBaselineName = setting(
        "none, or the baseline that recipe=train_baseline trains: smes, blenderbot_joint or bbmhr"
    )
    model: BaselineModel = setting("the model that is trained: backbone (an adapter, `sft.lora`) or seq2seq (all its weights)")


@dataclass(kw_only=True)
class Seq2SeqConfig(Group):
    name: str = setting("name in reports")
    source: Seq2SeqSource = setting("hub: from path; tiny: random, for tests")
    path: str | None = setting("source=hub: a hub id or a local folder of a BlenderBot, or of another sequence-to-sequence model")
    revision: str | None = setting("source=hub: the commit of a hub id; unused for a folder")
    max_source_tokens: int = setting("longest history, hints included; older text is cut off", ge=8)
    max_target_tokens: int = setting("longest target or response, labels included; the rest is cut off", ge=8)

    def problems(self, key: str) -> Iterator[str]:
        if self.source == Seq2SeqSource.hub and not self.path:
            yield f"{key}.source=hub needs {key}.path=<hub id or folder>"


@dataclass(kw_only=True)
class HintsConfig(Group):
    backbone: BackboneConfig | None = setting("the vision-language model that writes the hints; null uses `backbone`")
    batch_size: int = setting("questions answered at a time", ge=1)
    max_prompt_tokens: int = setting("longest question, frames included; oldest turns are dropped until it fits", ge=64)
    decoding: SamplingConfig = setting("how hints are decoded; temperature 0 is greedy")
