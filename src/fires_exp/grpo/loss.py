"""Eq. 2 and 3: the GRPO objective as a loss.

A batch is given as B = P·G completions of up to C tokens. The loss of a batch is a weighted sum over its tokens, and the
weights are computed once for the whole batch: so any split into micro-batches adds up to the same loss and gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fires_exp.config.training import Aggregation, RatioLevel


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """What is optimized. Without clipping both epsilons are None."""

    beta: float
    ratio_level: RatioLevel
    aggregation: Aggregation
    clip_epsilon_low: float | None
    clip_epsilon_high: float | None
    max_new_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LossTerms:
    """`loss` carries the gradient. The others are sums over the micro-batch's tokens, to be divided by the batch's tokens:
    the k3 KL estimate in nats, and how many tokens stood at a clipped ratio. `largest_ratio_gap` is max |p - 1|."""

    loss: Tensor
    kl_sum: Tensor
    clipped_sum: Tensor
    largest_ratio_gap: Tensor


def token_weights(mask_BC: Tensor, objective: Objective) -> Tensor:
    """[B, C]: the weight of each token's term in the batch's loss, zero where the mask is False.

    - `sequence_mean`: mean within a completion, then over completions (1/G Σ of Eq. 2)
    - `token_mean`: mean over all tokens of the batch
    - `constant`: sum over tokens / (B · max_new_tokens), so that a completion's length earns nothing
    """
    weights_BC = mask_BC.double()
    if objective.aggregation == "sequence_mean":
        return weights_BC / weights_BC.sum(dim=1, keepdim=True).clamp_min(1) / len(weights_BC)
    if objective.aggregation == "token_mean":
        return weights_BC / weights_BC.sum().clamp_min(1)
    return weights_BC / (len(weights_BC) * objective.max_new_tokens)


def grpo_loss(
    logprobs_BC: Tensor,
    *,
    old_logprobs_BC: Tensor,
    ref_logprobs_BC: Tensor | None,
    advantages_B: Tensor,
    mask_BC: Tensor,
    weights_BC: Tensor,
    batch_size: int,
    objective: Objective,
) -> LossTerms:
    """-(p A) + beta · KL over the rows of a micro-batch (paper, Eq. 2 and 3, negated: an optimizer minimizes).

    p is pi / pi_old: of each token, weighted by `weights_BC`; or of the whole completion as Eq. 3 prints it, weighted by
    1 / `batch_size`, B of the whole batch. With one update a rollout p is 1 and only its gradient counts. KL is the k3 estimate
    exp(d) - d - 1 with d = log pi_ref - log pi, each token weighted by `weights_BC`; `ref_logprobs_BC` may be None at beta = 0.
    """
    log_ratio_BC = (logprobs_BC - old_logprobs_BC).masked_fill(~mask_BC, 0.0)
    if objective.ratio_level == "token":
        ratio, advantage = log_ratio_BC.exp(), advantages_B[:, None].to(logprobs_BC.dtype)
        term_weights = weights_BC.to(logprobs_BC.dtype)
    else:
        ratio, advantage = log_ratio_BC.sum(dim=1).exp(), advantages_B.to(logprobs_BC.dtype)
        term_weights = torch.full_like(ratio, 1 / batch_size)
    gain = ratio * advantage
    clipped_sum = torch.zeros((), device=logprobs_BC.device)
    if objective.clip_epsilon_low is not None and objective.clip_epsilon_high is not None:
        held = ratio.clamp(1 - objective.clip_epsilon_low, 1 + objective.clip_epsilon_high)
        clipped = (gain > held * advantage).expand_as(mask_BC) if ratio.ndim == 2 else (gain > held * advantage)[:, None]
        clipped_sum = (clipped & mask_BC).sum().float()
        gain = torch.minimum(gain, held * advantage)
    loss = -(term_weights * gain).sum()
    kl_sum = torch.zeros((), device=logprobs_BC.device)
    if ref_logprobs_BC is not None:
        difference_BC = (ref_logprobs_BC - logprobs_BC).masked_fill(~mask_BC, 0.0)
        kl_BC = difference_BC.exp() - difference_BC - 1
        kl_sum = kl_BC.detach().sum()
        if objective.beta:
            loss = loss + objective.beta * (weights_BC.to(kl_BC.dtype) * kl_BC).sum()
    return LossTerms(loss=loss, kl_sum=kl_sum, clipped_sum=clipped_sum, largest_ratio_gap=(ratio.detach() - 1).abs().max())
