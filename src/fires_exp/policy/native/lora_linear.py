"""Linear layers over the same states, each with its LoRA pair, as one differentiable operation.

PEFT's layer computes the pair in float32 over whole activations and leaves every step to autograd: a fifth of a training step in
bfloat16. Here the pair is computed in the dtype of the states (its weights and their gradients stay float32) and added in place,
and the gradient of the shared input is accumulated in one buffer.
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
    """y = x W^T + b + scale · (x A^T) B^T, with weight W [Y, D], lora_a [A, D], lora_b [Y, A]; no pair if no adapter is on."""

    weight: Tensor
    bias: Tensor | None
    lora_a: Tensor | None
    lora_b: Tensor | None
    scale: float
    dropout: float

    @classmethod
    def of(cls, module: nn.Module) -> AdaptedWeight:
        """The current weights of a linear layer, bare or wrapped by PEFT. Raises `BackboneError` for any other layer."""
        layer: Any = module
        base = layer.base_layer if hasattr(layer, "base_layer") else layer
        if type(base) is not nn.Linear:
            raise BackboneError(f"{type(base).__name__} in place of a plain linear layer")
        if base is layer or layer.disable_adapters:
            return cls(weight=base.weight, bias=base.bias, lora_a=None, lora_b=None, scale=0.0, dropout=0.0)
        names = layer.active_adapters
        if len(names) != 1 or layer.merged or layer.lora_variant:
            raise BackboneError(f"adapters {names} of {type(layer).__name__}, more than one plain LoRA pair")
        dropout = layer.lora_dropout[names[0]]
        return cls(
            weight=base.weight,
            bias=base.bias,
            lora_a=layer.lora_A[names[0]].weight,
            lora_b=layer.lora_B[names[0]].weight,
            scale=float(layer.scaling[names[0]]),
            dropout=float(dropout.p) if isinstance(dropout, nn.Dropout) and dropout.training else 0.0,
        )

    def merged(self, out_YD: Tensor | None = None) -> Tensor:
        """W + scale · B A, written to `out_YD` if given (without gradient). Without a pair and `out_YD` it is W itself."""
        if self.lora_a is None or self.lora_b is None:
            return self.weight if out_YD is None else out_YD.copy_(self.weight)
        pair = self.lora_b.to(self.weight.dtype), self.lora_a.to(self.weight.dtype)
        return torch.addmm(self.weight, *pair, alpha=self.scale, out=out_YD)


class FusedLoraLinear:
    """Layers over the same states [T, D]; a call returns one product [T, Y_i] per layer."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.weights = [AdaptedWeight.of(module) for module in modules]

    def __call__(self, states_TD: Tensor) -> tuple[Tensor, ...]:
        if any(weight.dropout for weight in self.weights):
            return tuple(_with_dropout(states_TD, weight) for weight in self.weights)
        tensors = [tensor for layer in self.weights for tensor in (layer.weight, layer.bias, layer.lora_a, layer.lora_b)]
        scales = tuple(weight.scale for weight in self.weights)
        products: tuple[Tensor, ...] = _FusedLoraLinear.apply(states_TD, scales, *tensors)  # type: ignore[no-untyped-call]
        return products


def _with_dropout(states_TD: Tensor, layer: AdaptedWeight) -> Tensor:
    product_TY = F.linear(states_TD, layer.weight, layer.bias)
    if layer.lora_a is None or layer.lora_b is None:
        return product_TY
    dropped_TD = F.dropout(states_TD, layer.dropout)
    pair_TY = F.linear(F.linear(dropped_TD, layer.lora_a.to(states_TD.dtype)), layer.lora_b.to(states_TD.dtype))
    return product_TY + pair_TY * layer.scale


class _FusedLoraLinear(torch.autograd.Function):
    """`tensors` are weight, bias, lora_a and lora_b of each layer; weight and bias are frozen and get no gradient."""

    @staticmethod
    def forward(ctx: FunctionCtx, states_TD: Tensor, scales: tuple[float, ...], *tensors: Tensor | None) -> tuple[Tensor, ...]:
        products, saved = [], []
        for index, scale in enumerate(scales):
            weight, bias, lora_a, lora_b = tensors[4 * index : 4 * index + 4]
            assert weight is not None
            product_TY = F.linear(states_TD, weight, bias)
            reduced_TA = None
            if lora_a is not None and lora_b is not None:
                reduced_TA = F.linear(states_TD, lora_a.to(states_TD.dtype))
                product_TY.addmm_(reduced_TA, lora_b.to(states_TD.dtype).t(), alpha=scale)
            products.append(product_TY)
            saved += [weight, lora_a, lora_b, reduced_TA]
        ctx.save_for_backward(states_TD, *saved)  # type: ignore[arg-type]
        ctx.scales = scales  # type: ignore[attr-defined]
        ctx.set_materialize_grads(False)
        return tuple(products)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        states_TD, *saved = ctx.saved_tensors
        needs_states_gradient = ctx.needs_input_grad[0]
        states_gradient_TD: Tensor | None = None
        tensor_gradients: list[Tensor | None] = []
        for index, (scale, gradient_TY) in enumerate(zip(ctx.scales, gradients, strict=True)):
            weight, lora_a, lora_b, reduced_TA = saved[4 * index : 4 * index + 4]
            if gradient_TY is None:
                tensor_gradients += [None, None, None, None]
                continue
            if needs_states_gradient:
                if states_gradient_TD is None:
                    states_gradient_TD = gradient_TY @ weight
                else:
                    states_gradient_TD.addmm_(gradient_TY, weight)
            if lora_a is None:
                tensor_gradients += [None, None, None, None]
                continue
            reduced_gradient_TA = gradient_TY @ lora_b.to(gradient_TY.dtype) * scale
            if states_gradient_TD is not None:
                states_gradient_TD.addmm_(reduced_gradient_TA, lora_a.to(gradient_TY.dtype))
            lora_a_gradient = (reduced_gradient_TA.t() @ states_TD).to(lora_a.dtype)
            lora_b_gradient = (gradient_TY.t() @ reduced_TA * scale).to(lora_b.dtype)
            tensor_gradients += [None, None, lora_a_gradient, lora_b_gradient]
        return states_gradient_TD, None, *tensor_gradients
