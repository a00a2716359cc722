"""The sizes of a backbone, read from its configuration alone: no weight is loaded, none is allocated."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration

from fires_exp.config.model import BackboneConfig, LoraConfig
from fires_exp.errors import BackboneError
from fires_exp.policy.adapters import VISION_TOWER
from fires_exp.policy.backbone import backbone_source, unreachable


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelDims:
    """Counts of parameters and widths.

    `linear_parameters` are those of the language model's layers, `linears` each linear layer's name with its widths in and out.
    `key_width` is that of all key heads together. `stored_bytes` is what a parameter takes in the weights' files.
    """

    parameters: int
    linear_parameters: int
    vision_parameters: int
    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    query_width: int
    key_width: int
    vision_hidden: int
    vision_intermediate: int
    vision_layers: int
    patches_a_token: int
    patch_values: int
    stored_bytes: int
    linears: tuple[tuple[str, int, int], ...]

    def adapter_parameters(self, lora: LoraConfig) -> int:
        """What `add_adapter` makes trainable."""
        pairs = sum(wide_in + wide_out for name, wide_in, wide_out in self.linears if re.fullmatch(lora.target_modules, name))
        return lora.rank * pairs + (self.vision_parameters if lora.train_vision else 0)


def read_model_dims(config: BackboneConfig, cache: Path) -> ModelDims:
    """Of a hub's backbone only `config.json` is fetched. Raises `BackboneError` where it can't be had."""
    source = backbone_source(config, cache)
    try:
        model_config = AutoConfig.from_pretrained(source, revision=config.revision)
    except (OSError, ValueError) as error:
        raise unreachable(config, OSError(str(error))) from None
    if model_config.model_type != "qwen2_5_vl":
        raise BackboneError(
            f"backbone {config.name}: {source} is of type {model_config.model_type}; write one of type qwen2_5_vl"
        )
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(model_config)
    text, vision = model_config.text_config, model_config.vision_config
    head_width = text.hidden_size // text.num_attention_heads
    linears = tuple(
        (name, module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    )
    stored = model_config.dtype if isinstance(model_config.dtype, torch.dtype) else torch.float32
    return ModelDims(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        linear_parameters=sum(wide_in * wide_out for name, wide_in, wide_out in linears if ".language_model." in name),
        vision_parameters=sum(parameter.numel() for parameter in getattr(model.model, VISION_TOWER).parameters()),
        vocabulary=text.vocab_size,
        hidden=text.hidden_size,
        intermediate=text.intermediate_size,
        layers=text.num_hidden_layers,
        heads=text.num_attention_heads,
        query_width=text.num_attention_heads * head_width,
        key_width=text.num_key_value_heads * head_width,
        vision_hidden=vision.hidden_size,
        vision_intermediate=vision.intermediate_size,
        vision_layers=vision.depth,
        patches_a_token=vision.spatial_merge_size**2,
        patch_values=vision.in_channels * vision.temporal_patch_size * vision.patch_size**2,
        stored_bytes=stored.itemsize,
        linears=linears,
    )
