"""Products of weights with a few rows, as decoding has them: their time is that of reading the weights.

Stock calls read them badly on a CPU. Measured on two cores (Zen 5), two threads, [4, 576] by [3072, 576], 40 of them in turn:
the stock product reads 9 GB/s in float32 and 19 in bfloat16, W x^T 38 and 12, one with weights laid out for it 46 and 40. On
two cores with AMX, one thread, the stock product reads 6.5 in both, W x^T 10 in bfloat16, the one laid out 11 in float32. Small
products (the LoRA pair) are fastest in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from fires_exp.policy.native.lora_linear import AdaptedWeight


class Product(Protocol):
    """Layers over the same states [B, K] -> [B, N], N summed over the layers that were put together."""

    def __call__(self, states_BK: Tensor) -> Tensor: ...

    def added_to(self, sum_BN: Tensor, states_BK: Tensor) -> Tensor:
        """sum + product."""
        ...


def product_of(weights: Sequence[AdaptedWeight], rows: int) -> Product:
    """Layers over the same states as one product for about `rows` rows, their adapters as they are now; no gradient.

    On a CPU states are float32 whatever the weights are; elsewhere they have the weights' dtype.
    """
    if _packs(weights):
        return PackedProduct(weights, rows)
    return MixedProduct(weights, rows) if weights[0].weight.device.type == "cpu" else PlainProduct(weights)


def gated_product_of(gate_up: Sequence[AdaptedWeight], rows: int) -> Callable[[Tensor], Tensor]:
    """silu(gate(x)) · up(x) [B, I], likewise."""
    if _packs(gate_up):
        return PackedGate(*(PackedProduct([one], rows) for one in gate_up))
    return Gate(product_of(gate_up, rows))


def product_of_head(head_VK: Tensor, rows: int) -> Product:
    """The output layer, likewise."""
    return product_of([AdaptedWeight(weight=head_VK, bias=None, lora_a=None, lora_b=None, scale=0.0, dropout=0.0)], rows)


def _packs(weights: Sequence[AdaptedWeight]) -> bool:
    like = weights[0].weight
    return like.device.type == "cpu" and like.dtype == torch.float32 and can_pack(torch.float32)


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this torch lays out weights for oneDNN on this CPU; what its own compiler uses for it is not a public interface."""
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    there = torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in names)  # type: ignore[no-untyped-call]
    return there and (dtype == torch.float32 or (dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()))


class PackedProduct:
    """A copy of float32 weights, adapter folded in, laid out for products with few rows."""

    def __init__(self, weights: Sequence[AdaptedWeight], rows: int) -> None:
        folded = weights[0].folded() if len(weights) == 1 else _folded_together(weights)
        self.packed = torch.ops.mkldnn._reorder_linear_weight(folded, rows)
        self.bias_N = _stacked_bias(weights)

    def __call__(self, states_BK: Tensor, activation: str = "none") -> Tensor:
        product_BN: Tensor = torch.ops.mkldnn._linear_pointwise(states_BK, self.packed, self.bias_N, activation, [], "")
        return product_BN

    def added_to(self, sum_BN: Tensor, states_BK: Tensor) -> Tensor:
        return self.joined(states_BK, sum_BN, "add")

    def joined(self, states_BK: Tensor, other_BN: Tensor, how: str) -> Tensor:
        joined_BN: Tensor = torch.ops.mkldnn._linear_pointwise.binary(states_BK, other_BN, self.packed, self.bias_N, how)
        return joined_BN


class PackedGate:
    """silu(gate(x)) · up(x) in two calls."""

    def __init__(self, gate: PackedProduct, up: PackedProduct) -> None:
        self.gate, self.up = gate, up

    def __call__(self, states_BK: Tensor) -> Tensor:
        return self.up.joined(states_BK, self.gate(states_BK, "swish"), "mul")


class Gate:
    """silu(gate(x)) · up(x) of a product that holds both."""

    def __init__(self, both: Product) -> None:
        self.both = both

    def __call__(self, states_BK: Tensor) -> Tensor:
        gate_BI, up_BI = self.both(states_BK).chunk(2, dim=-1)
        return F.silu(gate_BI).mul_(up_BI)


class MixedProduct:
    """Weights as they are, in another dtype than the float32 states, the adapters' pairs beside them in float32: folded in they
    would be rounded away. Laid out for few rows where this torch can, else W x^T."""

    def __init__(self, weights: Sequence[AdaptedWeight], rows: int) -> None:
        self.weights = [one.weight for one in weights]
        self.sizes = [len(weight) for weight in self.weights]
        self.packed = (
            torch.ops.mkldnn._reorder_linear_weight(torch.cat(self.weights), rows) if can_pack(self.weights[0].dtype) else None
        )
        self.bias_N = _stacked_bias(weights)
        self.pair = _stacked_pairs(weights)

    def __call__(self, states_BK: Tensor) -> Tensor:
        product_BN = self._product(states_BK.to(self.weights[0].dtype)).to(states_BK.dtype)
        if self.bias_N is not None:
            product_BN += self.bias_N
        if self.pair is not None:
            product_BN.addmm_(states_BK @ self.pair[0], self.pair[1])
        return product_BN

    def added_to(self, sum_BN: Tensor, states_BK: Tensor) -> Tensor:
        return self(states_BK).add_(sum_BN)

    def _product(self, states_BK: Tensor) -> Tensor:
        if self.packed is not None:
            product_BN: Tensor = torch.ops.mkldnn._linear_pointwise(states_BK, self.packed, None, "none", [], "")
            return product_BN
        columns_NB = states_BK.new_empty(sum(self.sizes), len(states_BK))
        for weight, part in zip(self.weights, columns_NB.split(self.sizes), strict=True):  # type: ignore[no-untyped-call]
            torch.mm(weight, states_BK.t(), out=part)
        return columns_NB.t().contiguous()


class PlainProduct:
    """Stock products, the adapters' pairs beside them in the weights' dtype."""

    def __init__(self, weights: Sequence[AdaptedWeight]) -> None:
        self.weights = weights
        pair = _stacked_pairs(weights)
        self.pair = None if pair is None else tuple(half.to(weights[0].weight.dtype) for half in pair)

    def __call__(self, states_BK: Tensor) -> Tensor:
        product_BN = torch.cat([F.linear(states_BK, one.weight, one.bias) for one in self.weights], dim=-1)
        if self.pair is not None:
            product_BN.addmm_(states_BK @ self.pair[0], self.pair[1])
        return product_BN

    def added_to(self, sum_BN: Tensor, states_BK: Tensor) -> Tensor:
        return self(states_BK).add_(sum_BN)


def _folded_together(weights: Sequence[AdaptedWeight]) -> Tensor:
    """The folded weights one below the other, without a copy of each."""
    sizes = [len(one.weight) for one in weights]
    folded_NK = weights[0].weight.new_empty(sum(sizes), weights[0].weight.shape[1])
    for one, part in zip(weights, folded_NK.split(sizes), strict=True):  # type: ignore[no-untyped-call]
        one.folded(part)
    return folded_NK


def _stacked_bias(weights: Sequence[AdaptedWeight]) -> Tensor | None:
    if all(one.bias is None for one in weights):
        return None
    return torch.cat([one.weight.new_zeros(len(one.weight)) if one.bias is None else one.bias for one in weights]).float()


def _stacked_pairs(weights: Sequence[AdaptedWeight]) -> tuple[Tensor, Tensor] | None:
    """All A beside each other [K, R] and all scale · B in their places [R, N], float32; None without adapters."""
    pairs = [(place, one) for place, one in enumerate(weights) if one.lora_a is not None]
    if not pairs:
        return None
    sizes = [len(one.weight) for one in weights]
    reduce_KR = torch.cat([one.lora_a.float() for _, one in pairs if one.lora_a is not None]).t().contiguous()
    restore_RN = reduce_KR.new_zeros(reduce_KR.shape[1], sum(sizes))
    top = 0
    for place, one in pairs:
        assert one.lora_b is not None
        left, rank = sum(sizes[:place]), one.lora_b.shape[1]
        restore_RN[top : top + rank, left : left + sizes[place]] = one.lora_b.t() * one.scale
        top += rank
    return reduce_KR, restore_RN
