"""From the configuration of a command to its policy factory."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from fires_exp.config.data import FramesConfig
from fires_exp.config.model import AspectsConfig, BackboneConfig, PromptConfig
from fires_exp.config.root import PathsConfig
from fires_exp.config.training import TrainerConfig
from fires_exp.distributed.device import select_device
from fires_exp.policy.factory import PolicyFactory
from fires_exp.thinking.aspects import Aspect, ThinkingPlan


class ModelSettings(Protocol):
    """`ModelConfig`, and the configuration of any command that has the same groups."""

    backbone: BackboneConfig
    aspects: AspectsConfig
    frames: FramesConfig
    prompt: PromptConfig


def policy_factory(model: ModelSettings, trainer: TrainerConfig, paths: PathsConfig) -> PolicyFactory:
    return PolicyFactory(
        backbone=model.backbone,
        frames=model.frames,
        prompt=model.prompt,
        plan=ThinkingPlan(
            kind=model.aspects.plan,
            aspects=tuple(Aspect(name) for name in model.aspects.aspects),
        ),
        cache=Path(paths.cache).expanduser().absolute(),
        device=select_device(trainer),
    )
