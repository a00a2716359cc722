"""Log-probabilities of given tokens without a [T, V] tensor.

The output layer is applied to a chunk of rows at a time. A log-probability's gradient with respect to its state,
(W[id] - sum_v p_v W[v]) / temperature, is computed while the probabilities are at hand and stored, [T, D]. The backward pass then
only scales each row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

# logits of a chunk: 32 MB in float32 on a CPU, which fits into a server's caches, and 1 GB on a GPU
CPU_LOGITS = 2**23
GPU_LOGITS = 2**28


def chunked_logprobs(
    states_TD: Tensor, ids_T: Tensor, head_VD: Tensor, suppressed_V: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """log p(ids[t] | states[t]) [T] and entropies [T] in nats, float32; suppressed tokens have probability zero.

    Differentiable in the states only; the entropy carries no gradient.
    """
    logprobs_and_entropy: tuple[Tensor, Tensor] = _ChunkedLogprobs.apply(states_TD, ids_T, head_VD, suppressed_V, temperature)  # type: ignore[no-untyped-call]
    return logprobs_and_entropy


class _ChunkedLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, states_TD: Tensor, ids_T: Tensor, head_VD: Tensor, suppressed_V: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        needs_gradient = ctx.needs_input_grad[0]  # type: ignore[attr-defined]
        logprobs_T = torch.empty(len(ids_T), device=states_TD.device)
        entropy_T = torch.empty_like(logprobs_T)
        gradient_TD = torch.empty_like(states_TD) if needs_gradient else None
        rows = max(1, (GPU_LOGITS if states_TD.is_cuda else CPU_LOGITS) // len(head_VD))
        for start in range(0, len(ids_T), rows):
            chunk = slice(start, start + rows)
            logits_tV = (states_TD[chunk] @ head_VD.t()).float().div_(temperature).masked_fill_(suppressed_V, float("-inf"))
            logits_tV.sub_(logits_tV.amax(dim=-1, keepdim=True))
            chosen_t = logits_tV.gather(-1, ids_T[chunk, None]).squeeze(-1)
            probs_tV = logits_tV.exp()
            total_t = probs_tV.sum(dim=-1)
            probs_tV.div_(total_t[:, None])
            logprobs_T[chunk] = chosen_t - total_t.log()
            entropy_T[chunk] = total_t.log() - torch.linalg.vecdot(probs_tV, logits_tV.masked_fill_(suppressed_V, 0.0))
            if gradient_TD is not None:
                mean_tD = probs_tV.to(head_VD.dtype) @ head_VD
                torch.sub(head_VD[ids_T[chunk]], mean_tD, out=gradient_TD[chunk]).div_(temperature)
        ctx.mark_non_differentiable(entropy_T)
        ctx.save_for_backward(gradient_TD)  # type: ignore[arg-type]
        return logprobs_T, entropy_T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream_T: Tensor, _: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient_TD,) = ctx.saved_tensors
        return gradient_TD * upstream_T[:, None].to(gradient_TD.dtype), None, None, None, None
