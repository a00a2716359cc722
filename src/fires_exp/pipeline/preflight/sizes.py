"""What the estimates of a run's stages share, each measured when it is first needed: the backbone's sizes, prompt lengths."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from fires_exp.config.model import LoraConfig
from fires_exp.data.instances import Instances
from fires_exp.data.records import SupportExample
from fires_exp.pipeline.preflight.memory import Hardware
from fires_exp.pipeline.preflight.model_dims import read_model_dims
from fires_exp.pipeline.preflight.token_lengths import TokenLengths, measure_lengths
from fires_exp.policy.backbone import choose_dtype
from fires_exp.policy.factory import PolicyFactory
from fires_exp.prompts.processor import PromptEncoder


class Sizes:
    """The backbone's weights are not loaded; an embedded backbone is built if it is not in the cache. `ranks` share a batch."""

    def __init__(self, factory: PolicyFactory, ranks: int) -> None:
        self._factory = factory
        self._ranks = ranks
        self.lengths: dict[str, TokenLengths] = {}
        self._measured: dict[tuple[str, int], TokenLengths] = {}

    @cached_property
    def hardware(self) -> Hardware:
        return Hardware(
            dims=read_model_dims(self._factory.backbone, self._factory.cache),
            element=choose_dtype(self._factory.backbone.dtype, self._factory.device).itemsize,
            on_gpu=self._factory.device.type == "cuda",
            ranks=self._ranks,
        )

    @cached_property
    def encoder(self) -> PromptEncoder:
        return self._factory.prompt_encoder(self._factory.processor())

    def trained_parameters(self, lora: LoraConfig) -> int:
        return self.hardware.dims.adapter_parameters(lora)

    def measure(self, instances: Instances, completion_tokens: Callable[[SupportExample], int]) -> TokenLengths:
        """The lengths of the prompts of a split, and of the completions by `completion_tokens`. Measured once a split."""
        key = (instances.split, len(instances))
        if key not in self._measured:
            frames = self._factory.frames
            shows_frames = frames.name != "none" and instances.video_root is not None
            reader = self._factory.frame_reader(instances.video_root) if shows_frames else None
            self._measured[key] = measure_lengths(self.encoder, instances.examples, reader, frames, completion_tokens)
            label = instances.split if instances.split not in self.lengths else f"{instances.split} ({len(instances)} instances)"
            self.lengths[label] = self._measured[key]
        return self._measured[key]
