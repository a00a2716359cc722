"""Several LoRA adapters as one: W + s1 B1 A1 + s2 B2 A2 = W + [s1 B1, s2 B2] [A1; A2].

A run folds the cold start's adapter before it trains the next, so its model is a backbone and two adapters. Their ranks add up in
the one that is exported; it is exact but for rounding.
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


def stack_adapters(folders: Sequence[Path], out: Path, *, base: str, revision: str | None) -> None:
    """Write the adapter that does what those of `folders`, folded in one after the other, do; `base` is the backbone's name in
    its configuration. A part that is trained as a whole (the vision tower) is the last one's."""
    settings = [json.loads((folder / CONFIG).read_text()) for folder in folders]
    weights = [
        _scaled(load_file(folder / WEIGHTS), one["lora_alpha"] / one["r"]) for folder, one in zip(folders, settings, strict=True)
    ]
    rank = sum(one["r"] for one in settings)
    whole = {name for one in settings for name in one["modules_to_save"] or ()}
    joined: dict[str, Any] = settings[-1] | {
        "r": rank,
        "lora_alpha": rank,
        "modules_to_save": sorted(whole) or None,
        "base_model_name_or_path": base,
        "revision": revision,
        "inference_mode": True,
    }
    names = dict.fromkeys(name for one in weights for name in one)
    stacked = {name: _stacked(name, [one[name] for one in weights if name in one]) for name in names}
    out.mkdir(parents=True)
    (out / CONFIG).write_text(json.dumps(joined, indent=2) + "\n", encoding="utf-8")
    save_file(stacked, out / WEIGHTS, metadata={"format": "pt"})


def _scaled(weights: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    return {name: tensor * scale if ".lora_B." in name else tensor for name, tensor in weights.items()}


def _stacked(name: str, parts: Sequence[Tensor]) -> Tensor:
    if ".lora_A." in name:
        return torch.cat(list(parts), dim=0)
    if ".lora_B." in name:
        return torch.cat(list(parts), dim=1)
    return parts[-1].contiguous()
