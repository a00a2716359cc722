"""Builds policies and their prompts from the configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from fires_exp.config.data import FramesConfig
from fires_exp.config.model import BackboneConfig, PromptConfig
from fires_exp.data.records import SupportExample
from fires_exp.data.video.frames import FrameReader
from fires_exp.policy.adapters import merge_adapter
from fires_exp.policy.backbone import build_policy, build_processor
from fires_exp.policy.policy import Policy
from fires_exp.prompts.processor import EncodedPrompt, ImageChatProcessor, PromptEncoder
from fires_exp.thinking.aspects import ThinkingPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyFactory:
    """Builds policies on one backbone and the prompts for them. `cache` is the folder of built backbones and decoded frames."""

    backbone: BackboneConfig
    frames: FramesConfig
    prompt: PromptConfig
    plan: ThinkingPlan
    cache: Path
    device: torch.device

    def key_inputs(self) -> dict[str, Any]:
        """The settings that a policy's inputs and outputs depend on, for the key of a stage."""
        return {
            "backbone": asdict(self.backbone),
            "frames": asdict(self.frames),
            "prompt": asdict(self.prompt),
            "plan": asdict(self.plan),
            "accelerator": self.device.type,
        }

    def build(self, adapters: Sequence[Path]) -> Policy:
        """The backbone with these adapters merged into its weights, in order."""
        policy = build_policy(self.backbone, self.cache, self.device)
        for folder in adapters:
            merge_adapter(policy, folder)
        return policy

    def processor(self) -> ImageChatProcessor:
        """The backbone's tokenizer and image processor, without its weights."""
        return build_processor(self.backbone, self.cache)

    def frame_reader(self, video_root: Path | None) -> FrameReader:
        """Reads the frames of instances whose videos are in `video_root`; None is text only."""
        return FrameReader(self.frames, video_root, self.cache / "frames")

    def prompt_encoder(self, processor: ImageChatProcessor) -> PromptEncoder:
        return PromptEncoder(processor, self.plan, self.prompt.max_tokens)

    def encoder(
        self, processor: ImageChatProcessor, video_root: Path | None, examples: Sequence[SupportExample]
    ) -> Callable[[SupportExample], EncodedPrompt]:
        """A thread-safe function from an instance to its prompt with frames. Raises `DataError` if the last turn of one of
        `examples` alone exceeds `prompt.max_tokens`."""
        encoder = self.prompt_encoder(processor)
        encoder.check_fits(examples)
        frames = self.frame_reader(video_root)
        lock = Lock()

        def encode(example: SupportExample) -> EncodedPrompt:
            with lock:
                return encoder.encode(example, frames.frames_of(example))

        return encode
