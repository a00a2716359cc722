"""Backbones: every one is a `Qwen2_5_VLForConditionalGeneration` loaded from a folder or a hub id by the same code."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path

import torch
from huggingface_hub.constants import HF_HUB_OFFLINE
from transformers import Qwen2_5_VLForConditionalGeneration

from fires_exp.config.model import BackboneConfig
from fires_exp.errors import BackboneError
from fires_exp.policy.policy import Policy
from fires_exp.policy.smollm2_vl import embedded_backbone, tiny_backbone
from fires_exp.prompts.processor import ImageChatProcessor, load_processor

log = logging.getLogger("fires_exp.policy")


def backbone_source(config: BackboneConfig, cache: Path) -> str:
    """The folder or hub id that holds the weights; builds embedded backbones on first use."""
    if config.source == "embedded":
        return str(embedded_backbone(cache))
    if config.source == "tiny":
        return str(tiny_backbone(cache))
    assert config.path is not None
    if config.path.startswith((".", "/", "~")):
        folder = Path(config.path).expanduser()
        if not (folder / "config.json").is_file():
            raise BackboneError(
                f"backbone.path={config.path}: no config.json there; write a folder saved by transformers, or a hub id"
            )
        return str(folder)
    return config.path


def build_processor(config: BackboneConfig, cache: Path) -> ImageChatProcessor:
    """The backbone's tokenizer and image processor, without its weights."""
    source = backbone_source(config, cache)
    try:
        return load_processor(source, revision=config.revision)
    except OSError as error:
        raise unreachable(config, error) from None


def build_policy(config: BackboneConfig, cache: Path, device: torch.device) -> Policy:
    """The backbone on a device, untrained and without adapter. Raises `BackboneError` where its weights can't be had."""
    processor = build_processor(config, cache)
    try:
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            backbone_source(config, cache),
            revision=config.revision,
            dtype=choose_dtype(config.dtype, device),
            attn_implementation=choose_attention(config.attention, device),
            use_safetensors=True,
        )
    except OSError as error:
        raise unreachable(config, error) from None
    model.requires_grad_(False)
    policy = Policy(model, processor, config.name)
    policy.to(device)
    return policy.eval()


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on a GPU and on a CPU that multiplies bfloat16 matrices natively, else float32."""
    if name == "auto":
        native = device.type == "cuda" or torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
        name = "bfloat16" if native else "float32"
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def choose_attention(name: str, device: torch.device) -> str:
    """`auto` is flash_attention_2 where a GPU and the package are there, else sdpa."""
    if name != "auto":
        return name
    return "flash_attention_2" if device.type == "cuda" and importlib.util.find_spec("flash_attn") else "sdpa"


def unreachable(config: BackboneConfig, error: OSError) -> BackboneError:
    """What is said of a backbone whose files can't be had."""
    first_line = str(error).strip().splitlines()[0]
    offline = " (HF_HUB_OFFLINE is set)" if HF_HUB_OFFLINE else ""
    return BackboneError(
        f"backbone {config.name}: {config.path or config.source} can't be loaded{offline}: {first_line} "
        "Write backbone.path=<local folder>, or choose backbone=smollm2_vl, which needs no hub"
    )
