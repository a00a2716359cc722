"""Qwen2.5-VL's language model over rows of states [T, K] that need not be a batch: who attends to whom is up to the caller.

The stock class reads a rectangle [B, T]. Here the tokens of a prompt and of all its completions are rows of one matrix, so every
product is taken once over all of them; attention is the only place where rows meet. The weights are the policy's own, adapter
included, not a copy. Held to the stock class by `tests/policy/test_language.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F  # noqa: N812
from torch.utils.checkpoint import checkpoint

from fires_exp.errors import BackboneError
from fires_exp.policy.native.lora_linear import Projections
from fires_exp.policy.policy import Policy

# queries [T, heads, width], keys and values [T, key heads, width] of a layer -> what is mixed [T, heads · width]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]

Rotation = tuple[Tensor, Tensor]


class LanguageModel:
    """The language model of a policy as its adapter is now: on, or off inside `Policy.as_reference`.

    Raises `BackboneError` where the backbone has something that these layers do not compute.
    """

    def __init__(self, policy: Policy) -> None:
        stock = policy.qwen.model.language_model
        config = policy.qwen.config.text_config
        if set(config.layer_types) != {"full_attention"} or config.hidden_act != "silu":
            raise _not_native(policy, f"layer types {set(config.layer_types)} and activation {config.hidden_act}")
        if policy.qwen.lm_head.bias is not None or hasattr(policy.qwen.lm_head, "base_layer"):
            raise _not_native(policy, "an output layer with a bias or an adapter")
        self.heads = config.num_attention_heads
        self.key_heads = config.num_key_value_heads
        self.width = config.hidden_size // self.heads
        self.epsilon = config.rms_norm_eps
        try:
            self.layers = [LanguageLayer(layer, self.width, self.epsilon) for layer in stock.layers]
        except BackboneError as error:
            raise _not_native(policy, str(error)) from None
        self.norm_weight: Tensor = stock.norm.weight
        self.head_weight: Tensor = policy.qwen.lm_head.weight
        self._rotary = stock.rotary_emb

    def rotation(self, positions_3T: Tensor) -> Rotation:
        """Cosines and sines [T, 1, width / 2] of mRoPE positions."""
        cosines, sines = self._rotary(self.norm_weight, positions_3T[:, None])
        half = self.width // 2
        return cosines[0, :, None, :half], sines[0, :, None, :half]

    def run(self, states_TK: Tensor, rotation: Rotation, attend: Callable[[int], Attend], *, recompute: bool) -> Tensor:
        """The states [T, K] after the last layer and its norm. `attend(i)` is layer i's attention; with `recompute` a layer
        keeps only its input for the backward pass (gradient checkpointing)."""
        for place, layer in enumerate(self.layers):
            if recompute:
                states_TK = checkpoint(layer, states_TK, rotation, attend(place), use_reentrant=False)
            else:
                states_TK = layer(states_TK, rotation, attend(place))
        return rms_norm(states_TK, self.norm_weight, self.epsilon)


class LanguageLayer:
    """One decoder layer."""

    def __init__(self, stock: Any, width: int, epsilon: float) -> None:
        self.width = width
        self.epsilon = epsilon
        self.attention_norm: Tensor = stock.input_layernorm.weight
        self.mlp_norm: Tensor = stock.post_attention_layernorm.weight
        attention, mlp = stock.self_attn, stock.mlp
        self.query_key_value = Projections([attention.q_proj, attention.k_proj, attention.v_proj])
        self.out = Projections([attention.o_proj])
        self.gate_up = Projections([mlp.gate_proj, mlp.up_proj])
        self.down = Projections([mlp.down_proj])

    def __call__(self, states_TK: Tensor, rotation: Rotation, attend: Attend) -> Tensor:
        queries, keys, values = (
            product.reshape(len(states_TK), -1, self.width)
            for product in self.query_key_value(rms_norm(states_TK, self.attention_norm, self.epsilon))
        )
        mixed_TK = attend(rotate(queries, rotation), rotate(keys, rotation), values)
        states_TK = states_TK + self.out(mixed_TK)[0]
        gate, up = self.gate_up(rms_norm(states_TK, self.mlp_norm, self.epsilon))
        return states_TK + self.down(gated(gate, up))[0]


def _not_native(policy: Policy, what: str) -> BackboneError:
    return BackboneError(
        f"{policy.name} has {what}, which the native passes do not compute; "
        "choose sampling.engine=transformers, predict.decoding.engine=transformers and grpo.scoring=transformers"
    )


def rms_norm(states_TK: Tensor, weight_K: Tensor, epsilon: float) -> Tensor:
    """x / sqrt(mean(x²) + epsilon) · weight, the mean in float32; the weight is frozen."""
    normed: Tensor = _RmsNorm.apply(states_TK, weight_K, epsilon)  # type: ignore[no-untyped-call]
    return normed


def rotate(states_THD: Tensor, rotation: Rotation) -> Tensor:
    """Rotary position embedding of heads [T, heads, width]."""
    rotated: Tensor = _Rotate.apply(states_THD, *rotation)  # type: ignore[no-untyped-call]
    return rotated


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) · up."""
    product: Tensor = _Gated.apply(gate, up)  # type: ignore[no-untyped-call]
    return product


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, states_TK: Tensor, weight_K: Tensor, epsilon: float) -> Tensor:
        wide_TK = states_TK.float()
        inverse_T1 = torch.linalg.vecdot(wide_TK, wide_TK)[:, None].div_(wide_TK.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(states_TK, weight_K, inverse_T1)
        normed_TK: Tensor = (wide_TK * inverse_T1).to(states_TK.dtype).mul_(weight_K)
        return normed_TK

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_TK: Tensor) -> tuple[Tensor, None, None]:
        states_TK, weight_K, inverse_T1 = ctx.saved_tensors
        scaled_TK = (gradient_TK * weight_K).float()
        normed_TK = states_TK * inverse_T1
        along_T1 = torch.linalg.vecdot(scaled_TK, normed_TK)[:, None].div_(normed_TK.shape[-1])
        return scaled_TK.sub_(normed_TK.mul_(along_T1)).mul_(inverse_T1).to(gradient_TK.dtype), None, None


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, states_THD: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        ctx.save_for_backward(cosines, sines)
        return _rotated(states_THD, cosines, sines)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_THD: Tensor) -> tuple[Tensor, None, None]:
        cosines, sines = ctx.saved_tensors
        return _rotated(gradient_THD, cosines, -sines), None, None


def _rotated(states_THD: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    first, second = states_THD.chunk(2, dim=-1)
    rotated_THD = torch.empty_like(states_THD)
    half = first.shape[-1]
    torch.mul(first, cosines, out=rotated_THD[..., :half]).addcmul_(second, sines, value=-1)
    torch.mul(second, cosines, out=rotated_THD[..., half:]).addcmul_(first, sines)
    return rotated_THD


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        opened = F.silu(gate).mul_(gradient)
        return torch.ops.aten.silu_backward(up * gradient, gate), opened
