"""Qwen2.5-VL's language model over rows of states [T, D] that need not form a rectangle: the caller provides the attention.

The stock class reads a padded batch [B, T]. Here the tokens of a prompt and of all its completions are rows of one matrix, so
that every matrix product is computed once over all of them; rows interact in attention only. The weights are the policy's own,
adapter included, not a copy. `tests/policy/native/test_language_model.py` compares the results with the stock class.
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
from fires_exp.policy.native.lora_linear import FusedLoraLinear
from fires_exp.policy.policy import Policy

# queries [T, H, W], keys and values [T, K, W] of a layer -> attention outputs [T, H · W]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]

# cosines and sines [T, 1, W / 2]
Rotation = tuple[Tensor, Tensor]


class LanguageModel:
    """The language model of a policy with its adapter as it is now: on, or off inside `Policy.as_reference`.

    Raises `BackboneError` if the backbone has parts that these layers do not compute.
    """

    def __init__(self, policy: Policy) -> None:
        stock = policy.qwen.model.language_model
        config = policy.qwen.config.text_config
        if set(config.layer_types) != {"full_attention"} or config.hidden_act != "silu":
            raise _unsupported(policy, f"layer types {set(config.layer_types)} and activation {config.hidden_act}")
        if policy.qwen.lm_head.bias is not None or hasattr(policy.qwen.lm_head, "base_layer"):
            raise _unsupported(policy, "an output layer with a bias or an adapter")
        self.heads = config.num_attention_heads
        self.key_heads = config.num_key_value_heads
        self.head_width = config.hidden_size // self.heads
        self.epsilon = config.rms_norm_eps
        try:
            self.layers = [LanguageLayer(layer, self.head_width, self.epsilon) for layer in stock.layers]
        except BackboneError as error:
            raise _unsupported(policy, str(error)) from None
        self.norm_weight: Tensor = stock.norm.weight
        self.head_weight: Tensor = policy.qwen.lm_head.weight
        self._rotary = stock.rotary_emb

    def rotation(self, positions_3T: Tensor) -> Rotation:
        """Cosines and sines [T, 1, W / 2] of mRoPE positions."""
        cosines, sines = self._rotary(self.norm_weight, positions_3T[:, None])
        half = self.head_width // 2
        return cosines[0, :, None, :half], sines[0, :, None, :half]

    def run(self, states_TD: Tensor, rotation: Rotation, attend: Callable[[int], Attend], *, recompute: bool) -> Tensor:
        """The states [T, D] after the last layer and its norm. `attend(i)` is the attention of layer i; with `recompute` a layer
        stores only its input for the backward pass (gradient checkpointing)."""
        for index, layer in enumerate(self.layers):
            if recompute:
                states_TD = checkpoint(layer, states_TD, rotation, attend(index), use_reentrant=False)
            else:
                states_TD = layer(states_TD, rotation, attend(index))
        return rms_norm(states_TD, self.norm_weight, self.epsilon)


class LanguageLayer:
    """One decoder layer."""

    def __init__(self, stock: Any, head_width: int, epsilon: float) -> None:
        self.head_width = head_width
        self.epsilon = epsilon
        self.attention_norm: Tensor = stock.input_layernorm.weight
        self.mlp_norm: Tensor = stock.post_attention_layernorm.weight
        attention, mlp = stock.self_attn, stock.mlp
        self.query_key_value = FusedLoraLinear([attention.q_proj, attention.k_proj, attention.v_proj])
        self.out = FusedLoraLinear([attention.o_proj])
        self.gate_up = FusedLoraLinear([mlp.gate_proj, mlp.up_proj])
        self.down = FusedLoraLinear([mlp.down_proj])

    def __call__(self, states_TD: Tensor, rotation: Rotation, attend: Attend) -> Tensor:
        queries_THW, keys_TKW, values_TKW = (
            product.reshape(len(states_TD), -1, self.head_width)
            for product in self.query_key_value(rms_norm(states_TD, self.attention_norm, self.epsilon))
        )
        attended_TD = attend(rotate(queries_THW, rotation), rotate(keys_TKW, rotation), values_TKW)
        states_TD = states_TD + self.out(attended_TD)[0]
        gate_TI, up_TI = self.gate_up(rms_norm(states_TD, self.mlp_norm, self.epsilon))
        return states_TD + self.down(swiglu(gate_TI, up_TI))[0]


def _unsupported(policy: Policy, what: str) -> BackboneError:
    return BackboneError(
        f"{policy.name} has {what}, which the native passes do not compute; "
        "choose sampling.engine=transformers, predict.decoding.engine=transformers and grpo.scoring=transformers"
    )


def rms_norm(states_TD: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
    """x / sqrt(mean(x²) + epsilon) · weight, with the mean in float32; the weight gets no gradient."""
    normed_TD: Tensor = _RmsNorm.apply(states_TD, weight_D, epsilon)  # type: ignore[no-untyped-call]
    return normed_TD


def rotate(states_THW: Tensor, rotation: Rotation) -> Tensor:
    """Rotary position embedding of heads [T, H, W]."""
    rotated_THW: Tensor = _Rotate.apply(states_THW, *rotation)  # type: ignore[no-untyped-call]
    return rotated_THW


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) · up."""
    product: Tensor = _SwiGlu.apply(gate, up)  # type: ignore[no-untyped-call]
    return product


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, states_TD: Tensor, weight_D: Tensor, epsilon: float) -> Tensor:
        states32_TD = states_TD.float()
        inverse_T1 = torch.linalg.vecdot(states32_TD, states32_TD)[:, None].div_(states32_TD.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(states_TD, weight_D, inverse_T1)
        normed_TD: Tensor = (states32_TD * inverse_T1).to(states_TD.dtype).mul_(weight_D)
        return normed_TD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_TD: Tensor) -> tuple[Tensor, None, None]:
        states_TD, weight_D, inverse_T1 = ctx.saved_tensors
        scaled_TD = (gradient_TD * weight_D).float()
        normed_TD = states_TD * inverse_T1
        along_T1 = torch.linalg.vecdot(scaled_TD, normed_TD)[:, None].div_(normed_TD.shape[-1])
        return scaled_TD.sub_(normed_TD.mul_(along_T1)).mul_(inverse_T1).to(gradient_TD.dtype), None, None


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, states_THW: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        ctx.save_for_backward(cosines, sines)
        return _rotated(states_THW, cosines, sines)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_THW: Tensor) -> tuple[Tensor, None, None]:
        cosines, sines = ctx.saved_tensors
        return _rotated(gradient_THW, cosines, -sines), None, None


def _rotated(states_THW: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    first, second = states_THW.chunk(2, dim=-1)
    rotated_THW = torch.empty_like(states_THW)
    half = first.shape[-1]
    torch.mul(first, cosines, out=rotated_THW[..., :half]).addcmul_(second, sines, value=-1)
    torch.mul(second, cosines, out=rotated_THW[..., half:]).addcmul_(first, sines)
    return rotated_THW


class _SwiGlu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        up_gradient = F.silu(gate).mul_(gradient)
        return torch.ops.aten.silu_backward(up * gradient, gate), up_gradient
