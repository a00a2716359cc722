"""The device that this process computes on."""

from __future__ import annotations

import os

import torch

from fires_exp.config.training import TrainerConfig
from fires_exp.errors import ConfigError


def select_device(trainer: TrainerConfig) -> torch.device:
    """The device of this process. Of several ranks on a node, each uses the GPU whose index is its local rank.

    Raises `ConfigError` if a GPU is required and none is available, or if a node has fewer GPUs than ranks.
    """
    if trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise ConfigError("trainer.accelerator=gpu, but torch finds no GPU: choose trainer=cpu, or trainer.accelerator=cpu")
    if trainer.accelerator == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    if trainer.devices > torch.cuda.device_count():
        raise ConfigError(f"trainer.devices={trainer.devices}, but torch finds {torch.cuda.device_count()} GPUs: write fewer")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) if trainer.strategy != "single" else 0)
    torch.cuda.set_device(device)
    return device
