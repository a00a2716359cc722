"""Log-probabilities of chosen tokens, without a [tokens, vocabulary] tensor.

The output layer is taken over a few rows at a time. What a row's log-probability hands back to its state,
(W[chosen] - sum_v p_v W[v]) / temperature, is computed while the probabilities are at hand and kept: [tokens, K]. The backward
pass is then a product with a number a row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

# logits at a time: 32 MB in float32, which stays in the caches of a server's CPU, and 1 GB on a GPU
CPU_LOGITS = 2**23
GPU_LOGITS = 2**28


def selected_logprobs(
    states_TK: Tensor, ids_T: Tensor, head_VK: Tensor, suppressed_V: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """log p(ids[t] | states[t]) [T] and entropies [T] in nats, float32; suppressed tokens have probability zero.

    Differentiable in the states only; the entropy carries no gradient.
    """
    found: tuple[Tensor, Tensor] = _Selected.apply(states_TK, ids_T, head_VK, suppressed_V, temperature)  # type: ignore[no-untyped-call]
    return found


class _Selected(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, states_TK: Tensor, ids_T: Tensor, head_VK: Tensor, suppressed_V: Tensor, temperature: float
    ) -> tuple[Tensor, Tensor]:
        wanted = ctx.needs_input_grad[0]  # type: ignore[attr-defined]
        logprobs_T = torch.empty(len(ids_T), device=states_TK.device)
        entropy_T = torch.empty_like(logprobs_T)
        direction_TK = torch.empty_like(states_TK) if wanted else None
        rows = max(1, (GPU_LOGITS if states_TK.is_cuda else CPU_LOGITS) // len(head_VK))
        for start in range(0, len(ids_T), rows):
            part = slice(start, start + rows)
            logits_RV = (states_TK[part] @ head_VK.t()).float().div_(temperature).masked_fill_(suppressed_V, float("-inf"))
            logits_RV.sub_(logits_RV.amax(dim=-1, keepdim=True))
            chosen_R = logits_RV.gather(-1, ids_T[part, None]).squeeze(-1)
            probs_RV = logits_RV.exp()
            total_R = probs_RV.sum(dim=-1)
            probs_RV.div_(total_R[:, None])
            logprobs_T[part] = chosen_R - total_R.log()
            entropy_T[part] = total_R.log() - torch.linalg.vecdot(probs_RV, logits_RV.masked_fill_(suppressed_V, 0.0))
            if direction_TK is not None:
                mean_RK = probs_RV.to(head_VK.dtype) @ head_VK
                torch.sub(head_VK[ids_T[part]], mean_RK, out=direction_TK[part]).div_(temperature)
        ctx.mark_non_differentiable(entropy_T)
        ctx.save_for_backward(direction_TK)  # type: ignore[arg-type]
        return logprobs_T, entropy_T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_T: Tensor, _: Tensor) -> tuple[Tensor, None, None, None, None]:
        (direction_TK,) = ctx.saved_tensors
        return direction_TK * gradient_T[:, None].to(direction_TK.dtype), None, None, None, None
