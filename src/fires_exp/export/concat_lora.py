"""Several LoRA adapters as one: W + s1 B1 A1 + s2 B2 A2 = W + [s1 B1, s2 B2] [A1; A2], with s = alpha / rank.

A run merges the adapter of the cold start before it trains the next one, so its model is a backbone and two adapters. The rank of
the exported adapter is the sum of theirs; the result is exact up to rounding.

PEFT's `add_weighted_adapter(combination_type="cat")` computes the same for the LoRA matrices. It needs the backbone in memory,
and gives the new adapter an untrained copy of every module that was trained whole (the vision tower).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def concat_adapters(folders: Sequence[Path], out: Path, *, base: str, revision: str | None) -> None:
    """Write one adapter that is equivalent to those of `folders` merged one after the other. `base` is the backbone's name in its
    configuration. A module that was trained whole is taken from the last adapter that has it."""
    configs = [json.loads((folder / CONFIG).read_text()) for folder in folders]
    weights = [
        _with_scaled_b(load_file(folder / WEIGHTS), config["lora_alpha"] / config["r"])
        for folder, config in zip(folders, configs, strict=True)
    ]
    rank = sum(config["r"] for config in configs)
    modules_to_save = {name for config in configs for name in config["modules_to_save"] or ()}
    joint_config: dict[str, Any] = configs[-1] | {
        "r": rank,
        "lora_alpha": rank,
        "modules_to_save": sorted(modules_to_save) or None,
        "base_model_name_or_path": base,
        "revision": revision,
        "inference_mode": True,
    }
    names = dict.fromkeys(name for of_adapter in weights for name in of_adapter)
    joint_weights = {name: _concat(name, [of_adapter[name] for of_adapter in weights if name in of_adapter]) for name in names}
    out.mkdir(parents=True)
    (out / CONFIG).write_text(json.dumps(joint_config, indent=2) + "\n", encoding="utf-8")
    save_file(joint_weights, out / WEIGHTS, metadata={"format": "pt"})


def _with_scaled_b(weights: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    return {name: tensor * scale if ".lora_B." in name else tensor for name, tensor in weights.items()}


def _concat(name: str, tensors: Sequence[Tensor]) -> Tensor:
    """A matrices are [rank, inputs], B matrices [outputs, rank]."""
    if ".lora_A." in name:
        return torch.cat(list(tensors), dim=0)
    if ".lora_B." in name:
        return torch.cat(list(tensors), dim=1)
    return tensors[-1].contiguous()
