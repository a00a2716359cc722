"""Matrix products of weights with few rows, as in decoding: memory-bandwidth bound, since every weight is read for a few rows.

Stock calls use the bandwidth of a CPU badly. Measured on two cores (Zen 5), two threads, [4, 576] by [3072, 576], 40 of them in
turn: the stock product reads 9 GB/s in float32 and 19 in bfloat16, W x^T 38 and 12, a product with repacked weights 46 and 40. On
two cores with AMX, one thread: the stock product reads 6.5 in both, W x^T 10 in bfloat16, the repacked one 11 in float32. Small
products (the LoRA pair) are fastest in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from fires_exp.policy.native.lora_linear import AdaptedWeight


class Matmul(Protocol):
    """One or several layers over the same states: [B, D] -> [B, Y], the outputs side by side."""

    def __call__(self, states_BD: Tensor) -> Tensor: ...

    def add_to(self, sum_BY: Tensor, states_BD: Tensor) -> Tensor:
        """The product added to `sum_BY`, which may be any tensor [B, Y]."""
        ...


def matmul(weights: Sequence[AdaptedWeight], rows: int) -> Matmul:
    """Layers over the same states as one product for about `rows` rows, with the current weights of adapters; no gradient.

    On a CPU the states are float32 whatever the dtype of the weights; elsewhere they have the weights' dtype.
    """
    if _is_packed(weights):
        return PackedMatmul(weights, rows)
    return MixedPrecisionMatmul(weights, rows) if weights[0].weight.device.type == "cpu" else StockMatmul(weights)


def swiglu_matmul(gate_up: Sequence[AdaptedWeight], rows: int) -> Callable[[Tensor], Tensor]:
    """silu(gate(x)) · up(x) [B, I], likewise."""
    if _is_packed(gate_up):
        return PackedSwiGlu(*(PackedMatmul([weight], rows) for weight in gate_up))
    return SwiGlu(matmul(gate_up, rows))


def head_matmul(head_VD: Tensor, rows: int) -> Matmul:
    """The output layer, likewise."""
    return matmul([AdaptedWeight(weight=head_VD, bias=None, lora_a=None, lora_b=None, scale=0.0, dropout=0.0)], rows)


def _is_packed(weights: Sequence[AdaptedWeight]) -> bool:
    like = weights[0].weight
    return like.device.type == "cpu" and like.dtype == torch.float32 and can_pack(torch.float32)


def can_pack(dtype: torch.dtype) -> bool:
    """Whether torch can repack weights of a dtype for oneDNN on this CPU. The operators are those of torch's compiler, which are
    not public and may be missing."""
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    available = torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in names)  # type: ignore[no-untyped-call]
    return available and (dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()))


class PackedMatmul:
    """A copy of float32 weights with their adapters merged, repacked for products with few rows."""

    def __init__(self, weights: Sequence[AdaptedWeight], rows: int) -> None:
        merged_YD = weights[0].merged() if len(weights) == 1 else _merge_stacked(weights)
        self.packed = torch.ops.mkldnn._reorder_linear_weight(merged_YD, rows)
        self.bias_Y = _stack_biases(weights)

    def __call__(self, states_BD: Tensor, activation: str = "none") -> Tensor:
        product_BY: Tensor = torch.ops.mkldnn._linear_pointwise(states_BD, self.packed, self.bias_Y, activation, [], "")
        return product_BY

    def add_to(self, sum_BY: Tensor, states_BD: Tensor) -> Tensor:
        return self.combine(states_BD, sum_BY, "add")

    def combine(self, states_BD: Tensor, other_BY: Tensor, operation: str) -> Tensor:
        """The product combined with `other_BY` by an elementwise operation of oneDNN, "add" or "mul"."""
        result_BY: Tensor = torch.ops.mkldnn._linear_pointwise.binary(states_BD, other_BY, self.packed, self.bias_Y, operation)
        return result_BY


class PackedSwiGlu:
    """silu(gate(x)) · up(x) in two calls."""

    def __init__(self, gate: PackedMatmul, up: PackedMatmul) -> None:
        self.gate, self.up = gate, up

    def __call__(self, states_BD: Tensor) -> Tensor:
        return self.up.combine(states_BD, self.gate(states_BD, "swish"), "mul")


class SwiGlu:
    """silu(gate(x)) · up(x) from one product that holds both."""

    def __init__(self, gate_up: Matmul) -> None:
        self.gate_up = gate_up

    def __call__(self, states_BD: Tensor) -> Tensor:
        gate_BI, up_BI = self.gate_up(states_BD).chunk(2, dim=-1)
        return F.silu(gate_BI).mul_(up_BI)


class MixedPrecisionMatmul:
    """Weights in another dtype than the float32 states, with the LoRA pairs beside them in float32, since merging would round
    them away. The weights are repacked for few rows if torch can, otherwise the product is W x^T."""

    def __init__(self, weights: Sequence[AdaptedWeight], rows: int) -> None:
        self.weights = [layer.weight for layer in weights]
        self.sizes = [len(weight) for weight in self.weights]
        self.packed = (
            torch.ops.mkldnn._reorder_linear_weight(torch.cat(self.weights), rows) if can_pack(self.weights[0].dtype) else None
        )
        self.bias_Y = _stack_biases(weights)
        self.pair = _stack_pairs(weights)

    def __call__(self, states_BD: Tensor) -> Tensor:
        product_BY = self._product(states_BD.to(self.weights[0].dtype)).to(states_BD.dtype)
        if self.bias_Y is not None:
            product_BY += self.bias_Y
        if self.pair is not None:
            product_BY.addmm_(states_BD @ self.pair[0], self.pair[1])
        return product_BY

    def add_to(self, sum_BY: Tensor, states_BD: Tensor) -> Tensor:
        return self(states_BD).add_(sum_BY)

    def _product(self, states_BD: Tensor) -> Tensor:
        if self.packed is not None:
            product_BY: Tensor = torch.ops.mkldnn._linear_pointwise(states_BD, self.packed, None, "none", [], "")
            return product_BY
        columns_YB = states_BD.new_empty(sum(self.sizes), len(states_BD))
        for weight, part in zip(self.weights, columns_YB.split(self.sizes), strict=True):  # type: ignore[no-untyped-call]
            torch.mm(weight, states_BD.t(), out=part)
        return columns_YB.t().contiguous()


class StockMatmul:
    """Stock products, with the LoRA pairs beside them in the weights' dtype."""

    def __init__(self, weights: Sequence[AdaptedWeight]) -> None:
        self.weights = weights
        pair = _stack_pairs(weights)
        self.pair = None if pair is None else tuple(half.to(weights[0].weight.dtype) for half in pair)

    def __call__(self, states_BD: Tensor) -> Tensor:
        product_BY = torch.cat([F.linear(states_BD, layer.weight, layer.bias) for layer in self.weights], dim=-1)
        if self.pair is not None:
            product_BY.addmm_(states_BD @ self.pair[0], self.pair[1])
        return product_BY

    def add_to(self, sum_BY: Tensor, states_BD: Tensor) -> Tensor:
        return self(states_BD).add_(sum_BY)


def _merge_stacked(weights: Sequence[AdaptedWeight]) -> Tensor:
    """The merged weights of all layers, one below the other [Y, D], without a temporary copy of each."""
    sizes = [len(layer.weight) for layer in weights]
    merged_YD = weights[0].weight.new_empty(sum(sizes), weights[0].weight.shape[1])
    for layer, part in zip(weights, merged_YD.split(sizes), strict=True):  # type: ignore[no-untyped-call]
        layer.merged(part)
    return merged_YD


def _stack_biases(weights: Sequence[AdaptedWeight]) -> Tensor | None:
    """All biases [Y] in float32, zero for a layer without one; None if no layer has one."""
    if all(layer.bias is None for layer in weights):
        return None
    biases = [layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias for layer in weights]
    return torch.cat(biases).float()


def _stack_pairs(weights: Sequence[AdaptedWeight]) -> tuple[Tensor, Tensor] | None:
    """All A side by side [D, A] and all scale · B as a block-diagonal matrix [A, Y], float32; None without adapters."""
    pairs = [(index, layer) for index, layer in enumerate(weights) if layer.lora_a is not None]
    if not pairs:
        return None
    sizes = [len(layer.weight) for layer in weights]
    stacked_DA = torch.cat([layer.lora_a.float() for _, layer in pairs if layer.lora_a is not None]).t().contiguous()
    stacked_AY = stacked_DA.new_zeros(stacked_DA.shape[1], sum(sizes))
    top = 0
    for index, layer in pairs:
        assert layer.lora_b is not None
        left, rank = sum(sizes[:index]), layer.lora_b.shape[1]
        stacked_AY[top : top + rank, left : left + sizes[index]] = layer.lora_b.t() * layer.scale
        top += rank
    return stacked_DA, stacked_AY
