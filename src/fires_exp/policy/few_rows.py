"""Products of weights with a few rows, as decoding has them: their time is that of reading the weights.

Stock calls read them badly on a CPU. Measured on two cores with AMX, one thread, [4, 576] by [3072, 576]: in float32 the stock
product reads 6.5 GB/s and one with weights laid out for it 11; in bfloat16 the stock product repacks the weights every time,
6.5 GB/s, while W x^T reads them where they are, 10.2. Small products (the LoRA pair) are fastest in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from fires_exp.policy.projections import AdaptedWeight

# states [B, K] -> [B, N], N summed over the layers that were put together
Product = Callable[[Tensor], Tensor]


def product_of(weights: Sequence[AdaptedWeight], rows: int) -> Product:
    """Layers over the same states as one product for about `rows` rows, their adapters as they are now; no gradient.

    On a CPU states are float32 whatever the weights are; elsewhere they have the weights' dtype.
    """
    first = weights[0].weight
    if first.device.type != "cpu":
        return PlainProduct(weights)
    return PackedProduct(weights, rows) if first.dtype == torch.float32 and can_pack() else ColumnProduct(weights)


def product_of_head(head_VK: Tensor, rows: int) -> Product:
    """The output layer, likewise."""
    return product_of([AdaptedWeight(weight=head_VK, bias=None, lora_a=None, lora_b=None, scale=0.0, dropout=0.0)], rows)


def can_pack() -> bool:
    """Whether this torch lays out weights for oneDNN; what its own compiler uses for it is not a public interface."""
    names = ("_reorder_linear_weight", "_linear_pointwise")
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in names)  # type: ignore[no-untyped-call]


class PackedProduct:
    """A copy of float32 weights, adapter folded in, laid out for products with few rows."""

    def __init__(self, weights: Sequence[AdaptedWeight], rows: int) -> None:
        folded = torch.cat([one.folded() for one in weights]) if len(weights) > 1 else weights[0].folded()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(folded, rows)
        self.bias_N = _stacked_bias(weights)

    def __call__(self, states_BK: Tensor) -> Tensor:
        product_BN: Tensor = torch.ops.mkldnn._linear_pointwise(states_BK, self.packed, self.bias_N, "none", [], "")
        return product_BN


class ColumnProduct:
    """W x^T on the weights as they are, the adapters' pairs beside it in float32."""

    def __init__(self, weights: Sequence[AdaptedWeight]) -> None:
        self.weights = [one.weight for one in weights]
        self.sizes = [len(weight) for weight in self.weights]
        self.bias_N = _stacked_bias(weights)
        self.pair = _stacked_pairs(weights)

    def __call__(self, states_BK: Tensor) -> Tensor:
        states_KB = states_BK.to(self.weights[0].dtype).t()
        columns_NB = states_KB.new_empty(sum(self.sizes), len(states_BK))
        for weight, part in zip(self.weights, columns_NB.split(self.sizes), strict=True):  # type: ignore[no-untyped-call]
            torch.mm(weight, states_KB, out=part)
        product_BN = torch.empty(columns_NB.shape[::-1], dtype=states_BK.dtype).copy_(columns_NB.t())
        if self.bias_N is not None:
            product_BN += self.bias_N
        if self.pair is not None:
            product_BN.addmm_(states_BK @ self.pair[0], self.pair[1])
        return product_BN


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
