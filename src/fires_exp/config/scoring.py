"""Keys of scoring: text encoders, support skills, rewards, predictions and metrics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from fires_exp.config.field import Group, setting
from fires_exp.config.model import SamplingConfig
from fires_exp.config.services import JudgeConfig
from fires_exp.config.training import OptimizerConfig


class EncoderSource(StrEnum):
    hub = "hub"
    minilm = "minilm"
    tiny = "tiny"


class LevelLoss(StrEnum):
    plain = "plain"
    weighted = "weighted"


class Metric(StrEnum):
    bleu_2 = "bleu_2"
    rouge_l = "rouge_l"
    meteor = "meteor"
    distinct_3 = "distinct_3"
    similarity = "similarity"
    diff_epitome = "diff_epitome"


class PredictSplit(StrEnum):
    train = "train"
    val = "val"
    test = "test"


@dataclass(kw_only=True)
class EncoderConfig(Group):
    name: str = setting("name in reports")
    source: EncoderSource = setting(
        "hub: from path; minilm: all-MiniLM-L6-v2 from a PyPI package, a stand-in for RoBERTa; tiny: random, for tests"
    )
    path: str | None = setting("source=hub: a hub id or a local folder, of the BERT or RoBERTa family")
    revision: str | None = setting("source=hub: the commit of a hub id; unused for a folder")

    def problems(self, key: str) -> Iterator[str]:
        if self.source == EncoderSource.hub and not self.path:
            yield f"{key}.source=hub needs {key}.path=<hub id or folder>"


@dataclass(kw_only=True)
class EpitomeConfig(Group):
    data: str | None = setting("folder with EPITOME's three csv files; null uses the sample's labeled pairs, for a demonstration")
    encoder: EncoderConfig = setting("pretrained; each scorer has one for the seeker's text and one for the response")
    max_tokens: int = setting("longest seeker text and longest response, in tokens; the rest is cut off", ge=8, le=512)
    val_fraction: float = setting("share of the seeker posts whose pairs select the loss and the epoch", gt=0, lt=0.5)
    test_fraction: float = setting("share of the seeker posts whose pairs are only tested on", gt=0, lt=0.5)
    losses: list[LevelLoss] = setting(
        "losses tried, the best on val is kept: plain, or weighted by the inverse frequency of a level"
    )
    rationale_weight: float = setting("weight of the rationale loss beside the level loss, whose weight is 1", ge=0)
    frozen_layers: int | None = setting(
        "frozen layers of the response encoder, together with its embeddings; null trains all of it", ge=0
    )
    dropout: float = setting("dropout of the heads", ge=0, lt=1)
    encoder_dropout: float = setting("dropout inside the layers that are trained", ge=0, lt=1)
    epochs: int = setting("passes over the pairs; the epoch with the best macro-F1 on val is kept", ge=1)
    batch_size: int = setting("pairs an optimizer step", ge=1)
    optimizer: OptimizerConfig = setting("AdamW and its schedule")

    def problems(self, key: str) -> Iterator[str]:
        if not self.losses:
            yield f"{key}.losses=[]: write at least one of {', '.join(LevelLoss)}"


@dataclass(kw_only=True)
class SupportSkillConfig(Group):
    scorer: str | None = setting(
        "folder of trained EPITOME scorers (recipe=train_epitome); null trains them first, with the settings of `epitome`"
    )


@dataclass(kw_only=True)
class RewardConfig(Group):
    name: str = setting("name in reports")
    format_weight: float = setting("w^F of Eq. 5", ge=0)
    consistency_weight: float = setting("w^R of Eq. 5, for ROUGE-L F1 against the reference response", ge=0)
    support_skill_weight: float = setting("w^DE of Eq. 5, for support skills like the reference's; 0 is w/o SSR", ge=0)
    judge_weight: float = setting(
        "weight of a judge's comparison of the response with the reference, from 0 to 1; 0 is Eq. 5", ge=0
    )
    support_skill: SupportSkillConfig = setting("the scorer of support skills, for the reward and for DIFF-EPITOME")
    judge: JudgeConfig = setting("the service that judges, where judge_weight is above 0")

    def problems(self, key: str) -> Iterator[str]:
        if self.judge_weight > 0 and None in (self.judge.base_url, self.judge.model):
            yield (
                f"{key}.judge_weight={self.judge_weight:g} needs {key}.judge.base_url=<url> and {key}.judge.model=<model>, or "
                "reward=judge"
            )


@dataclass(kw_only=True)
class PredictConfig(Group):
    split: PredictSplit = setting("the split that is answered and scored: train, val or test")
    batch_size: int = setting("instances answered at a time", ge=1)
    decoding: SamplingConfig = setting("how responses are decoded; temperature 0 is greedy")


@dataclass(kw_only=True)
class SimilarityConfig(Group):
    encoder: EncoderConfig = setting("BERTScore is roberta-large; with another encoder the row has another name")
    layer: int = setting("the layer whose states are compared (roberta-large: 17)", ge=1)
    batch_size: int = setting("texts encoded at a time", ge=1)


@dataclass(kw_only=True)
class MetricsConfig(Group):
    include: list[Metric] = setting(
        "bleu_2, rouge_l, meteor, distinct_3, similarity, diff_epitome; form, length and aspects are always reported"
    )
    similarity: SimilarityConfig = setting("the encoder with which similarity compares texts")
    bootstrap_samples: int = setting("resamples of the instances, for intervals and for the paired comparison of systems", ge=100)
    confidence: float = setting("coverage of an interval", gt=0, lt=1)
