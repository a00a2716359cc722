"""Linear layers that read the same states, each with its LoRA pair, as one differentiable operation.

PEFT's layer computes the pair in float32 over whole activations and leaves every step of it to autograd: a fifth of a training
step in bfloat16. Here the pair is computed in the dtype of the states (its weights and their gradients stay float32), added in
place, and the gradient of the shared input is summed up in one buffer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional as F  # noqa: N812

from fires_exp.errors import BackboneError


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptedWeight:
    """y = x W^T + b + scale · (x A^T) B^T, with W [N, K], A [r, K], B [N, r]; without A and B where no adapter is on."""

    weight: Tensor
    bias: Tensor | None
    lora_a: Tensor | None
    lora_b: Tensor | None
    scale: float
    dropout: float

    @classmethod
    def of(cls, module: nn.Module) -> AdaptedWeight:
        """What a linear layer, bare or wrapped by PEFT, computes now. Raises `BackboneError` for any other kind of layer."""
        layer: Any = module
        base = layer.base_layer if hasattr(layer, "base_layer") else layer
        if type(base) is not nn.Linear:
            raise BackboneError(f"{type(base).__name__} is no plain linear layer")
        if base is layer or layer.disable_adapters:
            return cls(weight=base.weight, bias=base.bias, lora_a=None, lora_b=None, scale=0.0, dropout=0.0)
        names = layer.active_adapters
        if len(names) != 1 or layer.merged or layer.lora_variant:
            raise BackboneError(f"adapters {names} of {type(layer).__name__} are more than one plain LoRA pair")
        drop = layer.lora_dropout[names[0]]
        return cls(
            weight=base.weight,
            bias=base.bias,
            lora_a=layer.lora_A[names[0]].weight,
            lora_b=layer.lora_B[names[0]].weight,
            scale=float(layer.scaling[names[0]]),
            dropout=float(drop.p) if isinstance(drop, nn.Dropout) and drop.training else 0.0,
        )

    def folded(self, out_NK: Tensor | None = None) -> Tensor:
        """W + scale · B A, written to `out_NK` if there is one (no gradient then), else a new tensor unless there is no pair."""
        if self.lora_a is None or self.lora_b is None:
            return self.weight if out_NK is None else out_NK.copy_(self.weight)
        pair = self.lora_b.to(self.weight.dtype), self.lora_a.to(self.weight.dtype)
        return torch.addmm(self.weight, *pair, alpha=self.scale, out=out_NK)


class Projections:
    """Layers over the same states [T, K]; called, it gives one [T, N_i] a layer."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.weights = [AdaptedWeight.of(module) for module in modules]

    def __call__(self, states_TK: Tensor) -> tuple[Tensor, ...]:
        if any(one.dropout for one in self.weights):
            return tuple(_with_dropout(states_TK, one) for one in self.weights)
        tensors = [part for one in self.weights for part in (one.weight, one.bias, one.lora_a, one.lora_b)]
        products: tuple[Tensor, ...] = _Project.apply(states_TK, tuple(one.scale for one in self.weights), *tensors)  # type: ignore[no-untyped-call]
        return products


def _with_dropout(states_TK: Tensor, one: AdaptedWeight) -> Tensor:
    product_TN = F.linear(states_TK, one.weight, one.bias)
    if one.lora_a is None or one.lora_b is None:
        return product_TN
    dropped_TK = F.dropout(states_TK, one.dropout)
    pair_TN = F.linear(F.linear(dropped_TK, one.lora_a.to(states_TK.dtype)), one.lora_b.to(states_TK.dtype))
    return product_TN + pair_TN * one.scale


class _Project(torch.autograd.Function):
    """tensors: weight, bias, A, B of each layer; the frozen weight and bias get no gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, states_TK: Tensor, scales: tuple[float, ...], *tensors: Tensor | None) -> tuple[Tensor, ...]:
        products, kept = [], []
        for place, scale in enumerate(scales):
            weight, bias, lora_a, lora_b = tensors[4 * place : 4 * place + 4]
            assert weight is not None
            product_TN = F.linear(states_TK, weight, bias)
            reduced_TR = None
            if lora_a is not None and lora_b is not None:
                reduced_TR = F.linear(states_TK, lora_a.to(states_TK.dtype))
                product_TN.addmm_(reduced_TR, lora_b.to(states_TK.dtype).t(), alpha=scale)
            products.append(product_TN)
            kept += [weight, lora_a, lora_b, reduced_TR]
        ctx.save_for_backward(states_TK, *kept)  # type: ignore[arg-type]
        ctx.scales = scales  # type: ignore[attr-defined]
        ctx.set_materialize_grads(False)
        return tuple(products)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        states_TK, *kept = ctx.saved_tensors
        wanted = ctx.needs_input_grad[0]
        states_gradient_TK: Tensor | None = None
        pairs: list[Tensor | None] = []
        for place, (scale, gradient_TN) in enumerate(zip(ctx.scales, gradients, strict=True)):
            weight, lora_a, lora_b, reduced_TR = kept[4 * place : 4 * place + 4]
            if gradient_TN is None:
                pairs += [None, None, None, None]
                continue
            if wanted:
                if states_gradient_TK is None:
                    states_gradient_TK = gradient_TN @ weight
                else:
                    states_gradient_TK.addmm_(gradient_TN, weight)
            if lora_a is None:
                pairs += [None, None, None, None]
                continue
            reduced_gradient_TR = gradient_TN @ lora_b.to(gradient_TN.dtype) * scale
            if states_gradient_TK is not None:
                states_gradient_TK.addmm_(reduced_gradient_TR, lora_a.to(gradient_TN.dtype))
            lora_a_gradient = (reduced_gradient_TR.t() @ states_TK).to(lora_a.dtype)
            lora_b_gradient = (gradient_TN.t() @ reduced_TR * scale).to(lora_b.dtype)
            pairs += [None, None, lora_a_gradient, lora_b_gradient]
        return states_gradient_TK, None, *pairs
