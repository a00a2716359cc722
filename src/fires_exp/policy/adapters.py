"""LoRA adapters: put one on, save it in PEFT's format, fold it into the base, tell what is trainable.

Two adapters in a run: SFT's is folded into the base, then GRPO gets a fresh one, and "adapter off" is the SFT model, the
reference policy of Eq. 2. There is never a second copy of the model.
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
    """Put a fresh adapter on a bare backbone; its B matrices are zero, so that nothing changes yet.

    The adapter's weights are float32 whatever the backbone's are. With `train_vision` the whole tower is a trained part of
    the adapter, in float32 too (bfloat16 weights would swallow small updates).
    """
    if isinstance(policy.model, PeftModel):
        raise TrainingError("the policy has an adapter already; fold it first")
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


def save_activation_memory(policy: Policy | Seq2Seq) -> None:
    """Recompute activations in the backward pass (gradient checkpointing)."""
    model = policy.model
    # transformers renamed it in 5.2x; machines in use have both
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def check_trainable(policy: Policy, config: LoraConfig) -> int:
    """How many parameters train. Raises `TrainingError` if anything but the adapter would, or if the adapter would not."""
    trainable = [(name, parameter) for name, parameter in policy.named_parameters() if parameter.requires_grad]
    strangers = [name for name, _ in trainable if "lora_" not in name and "modules_to_save" not in name]
    vision = any("modules_to_save" in name for name, _ in trainable)
    if strangers or not any("lora_B" in name for name, _ in trainable) or vision != config.train_vision:
        raise TrainingError(
            f"the adapter was set up wrong: {len(trainable)} trainable tensors, of them {strangers[:3]} outside it"
        )
    return sum(parameter.numel() for _, parameter in trainable)


def save_adapter(policy: Policy, folder: Path) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json`, which plain PEFT loads."""
    policy.model.save_pretrained(folder, save_embedding_layers=False)


def fold_adapter(policy: Policy, folder: Path) -> None:
    """Load the adapter of a folder onto a bare backbone and merge it into the weights."""
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
    """sha256 over the bytes of all trainable, or all frozen, parameters, in their order."""
    digest = hashlib.sha256()
    for name, parameter in policy.named_parameters():
        if parameter.requires_grad == trainable:
            digest.update(name.encode())
            digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
