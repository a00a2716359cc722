"""Backbones: every backbone is a `Qwen2_5_VLForConditionalGeneration`, loaded from a folder or a hub id by the same code."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from transformers import Qwen2_5_VLForConditionalGeneration

from fires_exp.config.model import Attention, BackboneConfig, BackboneSource, Dtype
from fires_exp.errors import BackboneError
from fires_exp.policy.policy import Policy
from fires_exp.policy.smollm2_vl import embedded_backbone
from fires_exp.policy.tiny_models import tiny_backbone
from fires_exp.prompts.processor import ImageChatProcessor, load_processor
from fires_exp.storage.pretrained import resolve_source, unreachable_model


def backbone_source(config: BackboneConfig, cache: Path) -> str:
    """The folder or hub id of the weights. The embedded and tiny backbones are built into `cache` on first use."""
    if config.source == BackboneSource.embedded:
        return str(embedded_backbone(cache))
    if config.source == BackboneSource.tiny:
        return str(tiny_backbone(cache))
    assert config.path is not None
    return resolve_source(config.path, "backbone.path")


def build_processor(config: BackboneConfig, cache: Path) -> ImageChatProcessor:
    """The backbone's tokenizer and image processor, without its weights."""
    source = backbone_source(config, cache)
    try:
        return load_processor(source, revision=config.revision)
    except OSError as error:
        raise unreachable(config, error) from None


def build_policy(config: BackboneConfig, cache: Path, device: torch.device) -> Policy:
    """The frozen backbone on a device, without an adapter. Raises `BackboneError` if its weights cannot be loaded."""
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


def choose_dtype(name: Dtype, device: torch.device) -> torch.dtype:
    """`auto` is bfloat16 on a GPU and on a CPU with bfloat16 matrix instructions, otherwise float32."""
    if name == Dtype.auto:
        native = device.type == "cuda" or torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
        name = Dtype.bfloat16 if native else Dtype.float32
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def choose_attention(name: Attention, device: torch.device) -> str:
    """`auto` is flash_attention_2 on a GPU if the package is installed, otherwise sdpa."""
    if name != Attention.auto:
        return str(name)
    return "flash_attention_2" if device.type == "cuda" and importlib.util.find_spec("flash_attn") else "sdpa"


def unreachable(config: BackboneConfig, error: OSError) -> BackboneError:
    """The error for a backbone whose files cannot be loaded."""
    remedy = "Write backbone.path=<local folder>, or choose backbone=smollm2_vl, which needs no hub"
    return unreachable_model(f"backbone {config.name}", config.path or config.source, error, remedy)
