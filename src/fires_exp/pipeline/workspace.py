"""What the stages of one run share: the configuration, the instances, where things lie."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from fires_exp.config.data import DatasetConfig
from fires_exp.config.root import Config
from fires_exp.data.dataset import Dataset, content_hash, read_dataset
from fires_exp.data.records import Split, SupportExample
from fires_exp.data.video.frames import FrameReader
from fires_exp.distributed.device import select_device
from fires_exp.errors import ConfigError
from fires_exp.pipeline.resource_errors import exhaustion_told
from fires_exp.policy.adapters import merge_adapter
from fires_exp.policy.backbone import build_policy
from fires_exp.policy.policy import Policy
from fires_exp.prompts.processor import EncodedPrompt, ImageChatProcessor, PromptEncoder
from fires_exp.storage.artifacts import Artifact, make
from fires_exp.thinking.aspects import Aspect, ThinkingPlan

log = logging.getLogger("fires_exp.pipeline")

# folders whose code decides what an encoded prompt and a completion are
MODEL_CODE = ("data", "thinking", "prompts", "policy")


class Workspace:
    """Everything is read when it is first asked for."""

    def __init__(self, config: Config, run_folder: Path) -> None:
        self.config = config
        self.run_folder = run_folder
        self.artifacts = Path(config.paths.artifacts).expanduser().absolute()
        self.cache = Path(config.paths.cache).expanduser().absolute()
        self.made: list[Artifact] = []
        self._identities: dict[tuple[Path | None, tuple[int, ...]], str] = {}  # instances live as long as their dataset
        self.plan = ThinkingPlan(
            kind=config.aspects.plan,
            aspects=tuple(Aspect(name) for name in config.aspects.aspects),
        )

    @cached_property
    def device(self) -> torch.device:
        return select_device(self.config.trainer)

    @cached_property
    def dataset(self) -> Dataset:
        return read_dataset(self.config.dataset, self.config.seed, self.cache)

    @cached_property
    def test_dataset(self) -> Dataset:
        """What is predicted and scored: the dataset itself unless `test_dataset` names another."""
        if self.config.test_dataset is None:
            return self.dataset
        return read_dataset(self.config.test_dataset, self.config.seed, self.cache)

    def examples(self, split: Split) -> tuple[SupportExample, ...]:
        """A split of the dataset that is trained on. Raises `ConfigError` where it is empty."""
        return _not_empty(self.dataset.examples[split], self.config.dataset, split)

    @property
    def test_examples(self) -> tuple[SupportExample, ...]:
        split: Split = self.config.predict.split.value
        return _not_empty(self.test_dataset.examples[split], self.config.test_dataset or self.config.dataset, split)

    def identity(self, examples: Sequence[SupportExample], dataset: Dataset) -> str:
        """A hash of instances and of what their videos are, taken once a run: several stages ask for that of the same."""
        root = dataset.video_root if self.config.frames.name != "none" else None
        which = (root, tuple(map(id, examples)))
        if which not in self._identities:
            self._identities[which] = content_hash(examples, root)
        return self._identities[which]

    def model_inputs(self) -> dict[str, Any]:
        """The leaves of the configuration that decide what a model reads."""
        config = self.config
        return {
            "seed": config.seed,
            "backbone": asdict(config.backbone),
            "frames": asdict(config.frames),
            "aspects": asdict(config.aspects),
            "prompt": asdict(config.prompt),
            "accelerator": self.device.type,
        }

    def policy(self, adapters: Sequence[Path]) -> Policy:
        """The backbone with these adapters folded in, in order."""
        policy = build_policy(self.config.backbone, self.cache, self.device)
        for folder in adapters:
            merge_adapter(policy, folder)
        return policy

    def encode(
        self, processor: ImageChatProcessor, dataset: Dataset, examples: Sequence[SupportExample]
    ) -> Callable[[SupportExample], EncodedPrompt]:
        """A function from an instance to its prompt, with its frames, which threads may share. Raises `DataError` if one of
        `examples` can't fit."""
        encoder = PromptEncoder(processor, self.plan, self.config.prompt.max_tokens)
        encoder.check_fits(examples)
        frames = FrameReader(self.config.frames, dataset.video_root, self.cache / "frames")
        one_at_a_time = Lock()

        def encode(example: SupportExample) -> EncodedPrompt:
            with one_at_a_time:
                return encoder.encode(example, frames.frames_of(example))

        return encode

    def completion_ids(self, policy: Policy) -> Callable[[str], Tensor]:
        """A function from a completion's text to its ids."""
        return PromptEncoder(policy.processor, self.plan, self.config.prompt.max_tokens).completion_ids

    def make(self, stage: str, depends_on: dict[str, Any], build: Callable[[Path], None], *, together: bool) -> Artifact:
        """`artifact.make` in this run's artifacts, remembered for `run.json`."""
        with exhaustion_told(self.config, stage):
            artifact = make(self.artifacts, stage, depends_on, build, together=together)
        self.made.append(artifact)
        return artifact


def _not_empty(examples: tuple[SupportExample, ...], dataset: DatasetConfig, split: str) -> tuple[SupportExample, ...]:
    if not examples:
        raise ConfigError(
            f"dataset={dataset.name} has no {split} split; choose another with predict.split=, or another dataset to train on"
        )
    return examples
