"""LoRA adapters: add one, save it in PEFT's format, merge it into the base, check what is trainable.

A run has two adapters in turn. SFT's is merged into the base, then GRPO gets a fresh one, so that the model with its adapter off
is the SFT model: the reference policy of Eq. 2. No second copy of the model is needed.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from torch import nn

from fires_exp.config.model import LoraConfig
from fires_exp.errors import BackboneError, TrainingError
from fires_exp.policy.policy import Policy
from fires_exp.policy.seq2seq import Seq2Seq

VISION_TOWER = "visual"


def add_adapter(policy: Policy, config: LoraConfig, seed: int) -> None:
    """Add a fresh adapter to a bare backbone; its B matrices are zero, so outputs do not change yet.

    The adapter's weights are float32 whatever the dtype of the backbone. With `train_vision` the vision tower is trained too, as
    a part of the adapter and in float32 (bfloat16 weights would round small updates away). Raises `TrainingError` if there is an
    adapter already, `BackboneError` if `lora.target_modules` matches nothing.
    """
    if isinstance(policy.model, PeftModel):
        raise TrainingError("the policy already has an adapter; merge it first")
    names = [name for name, _ in policy.model.named_modules() if re.fullmatch(config.target_modules, name)]
    if not names:
        raise BackboneError(f"lora.target_modules={config.target_modules} matches no module of the backbone")
    peft_config = PeftLoraConfig(
        task_type="CAUSAL_LM",
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=config.target_modules,
        modules_to_save=[VISION_TOWER] if config.train_vision else None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        policy.model = get_peft_model(policy.model, peft_config)
    for parameter in policy.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    policy.to(policy.device)


def enable_gradient_checkpointing(policy: Policy | Seq2Seq) -> None:
    """Recompute activations in the backward pass instead of storing them."""
    model = policy.model
    # transformers renamed the method in 5.2x, and both versions are in use
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def check_trainable(policy: Policy, config: LoraConfig) -> int:
    """The number of trainable parameters. Raises `TrainingError` unless the adapter is trainable and nothing else is."""
    trainable = [(name, parameter) for name, parameter in policy.named_parameters() if parameter.requires_grad]
    outside = [name for name, _ in trainable if "lora_" not in name and "modules_to_save" not in name]
    vision = any("modules_to_save" in name for name, _ in trainable)
    if outside or not any("lora_B" in name for name, _ in trainable) or vision != config.train_vision:
        raise TrainingError(f"the adapter was set up wrong: {len(trainable)} trainable tensors, of them {outside[:3]} outside it")
    return sum(parameter.numel() for _, parameter in trainable)


def save_adapter(policy: Policy, folder: Path) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json`, which plain PEFT loads."""
    policy.model.save_pretrained(folder, save_embedding_layers=False)


def merge_adapter(policy: Policy, folder: Path) -> None:
    """Load a saved adapter onto a bare backbone and merge it into the weights. Raises `BackboneError` if it does not fit."""
    try:
        adapted = PeftModel.from_pretrained(policy.model, str(folder), is_trainable=False)
    except (OSError, ValueError, RuntimeError) as error:
        raise BackboneError(f"{folder}: not an adapter for {policy.name}: {str(error).splitlines()[0]}") from None
    dtype = next(policy.model.parameters()).dtype
    policy.model = adapted.merge_and_unload()
    policy.model.to(dtype)
    policy.model.requires_grad_(False)
    policy.to(policy.device).eval()


def parameters_hash(policy: nn.Module, trainable: bool) -> str:
    """sha256 over names and bytes of all trainable, or all frozen, parameters in their order."""
    digest = hashlib.sha256()
    for name, parameter in policy.named_parameters():
        if parameter.requires_grad == trainable:
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
