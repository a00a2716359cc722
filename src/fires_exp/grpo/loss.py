"""Eq. 2 and 3: the GRPO objective, negated to a loss. Pure functions of tensors.

A batch has B = P·G completions of up to C tokens. Its loss is a weighted sum over its tokens, and the weights are computed once
for the whole batch. So the losses and gradients of micro-batches add up to those of the batch, however it is split.

Departures from the paper: Eq. 3 has no clipping and prints a ratio per sequence; `LossSettings` offers both that and the usual
clipped ratio per token. Both have the same gradient where each rollout is used once, up to the aggregation over tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fires_exp.config.training import Aggregation, RatioLevel


@dataclass(frozen=True, kw_only=True, slots=True)
class LossSettings:
    """The options of Eq. 2 and 3. Both epsilons are None without clipping."""

    beta: float
    ratio_level: RatioLevel
    aggregation: Aggregation
    clip_epsilon_low: float | None
    clip_epsilon_high: float | None
    max_new_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LossTerms:
    """The loss of a micro-batch and what is logged beside it. Only `loss` carries a gradient.

    `kl_sum` (k3 estimate, nats) and `clipped_sum` (tokens whose ratio was clipped) are sums over the micro-batch's tokens, to be
    divided by the token count of the batch. `largest_ratio_gap` is max |p - 1|.
    """

    loss: Tensor
    kl_sum: Tensor
    clipped_sum: Tensor
    largest_ratio_gap: Tensor


def token_weights(mask_BC: Tensor, settings: LossSettings) -> Tensor:
    """[B, C] float64: the weight of each token's term in the loss of the batch, zero where the mask is False.

    - `sequence_mean`: mean over the tokens of a completion, then over completions (1/G Σ of Eq. 2)
    - `token_mean`: mean over all tokens of the batch
    - `constant`: sum over tokens / (B · max_new_tokens), which does not depend on the completion's length
    """
    weights_BC = mask_BC.double()
    if settings.aggregation == "sequence_mean":
        return weights_BC / weights_BC.sum(dim=1, keepdim=True).clamp_min(1) / len(weights_BC)
    if settings.aggregation == "token_mean":
        return weights_BC / weights_BC.sum().clamp_min(1)
    return weights_BC / (len(weights_BC) * settings.max_new_tokens)


def grpo_loss(
    logprobs_BC: Tensor,
    *,
    old_logprobs_BC: Tensor,
    ref_logprobs_BC: Tensor | None,
    advantages_B: Tensor,
    mask_BC: Tensor,
    weights_BC: Tensor,
    batch_size: int,
    settings: LossSettings,
) -> LossTerms:
    """Eq. 2 and 3, negated: -(p · A) + beta · KL, for the rows of a micro-batch.

    p = pi / pi_old is either the ratio of each token, weighted by `weights_BC`, or the ratio of the whole completion as Eq. 3
    prints it, weighted by 1 / `batch_size` (B of the whole batch). In the first update on a rollout p is 1, and only its gradient
    matters. KL is the k3 estimate exp(d) - d - 1 with d = log pi_ref - log pi, weighted by `weights_BC`. `ref_logprobs_BC` may be
    None if beta = 0.
    """
    log_ratio_BC = (logprobs_BC - old_logprobs_BC).masked_fill(~mask_BC, 0.0)
    if settings.ratio_level == "token":
        ratio, advantage = log_ratio_BC.exp(), advantages_B[:, None].to(logprobs_BC.dtype)
        term_weights = weights_BC.to(logprobs_BC.dtype)
    else:
        ratio, advantage = log_ratio_BC.sum(dim=1).exp(), advantages_B.to(logprobs_BC.dtype)
        term_weights = torch.full_like(ratio, 1 / batch_size)
    surrogate = ratio * advantage
    clipped_sum = torch.zeros((), device=logprobs_BC.device)
    if settings.clip_epsilon_low is not None and settings.clip_epsilon_high is not None:
        clipped_surrogate = ratio.clamp(1 - settings.clip_epsilon_low, 1 + settings.clip_epsilon_high) * advantage
        is_clipped = surrogate > clipped_surrogate
        is_clipped_BC = is_clipped.expand_as(mask_BC) if ratio.ndim == 2 else is_clipped[:, None]
        clipped_sum = (is_clipped_BC & mask_BC).sum().float()
        surrogate = torch.minimum(surrogate, clipped_surrogate)
    loss = -(term_weights * surrogate).sum()
    kl_sum = torch.zeros((), device=logprobs_BC.device)
    if ref_logprobs_BC is not None:
        difference_BC = (ref_logprobs_BC - logprobs_BC).masked_fill(~mask_BC, 0.0)
        kl_BC = difference_BC.exp() - difference_BC - 1
        kl_sum = kl_BC.detach().sum()
        if settings.beta:
            loss = loss + settings.beta * (weights_BC.to(kl_BC.dtype) * kl_BC).sum()
    return LossTerms(loss=loss, kl_sum=kl_sum, clipped_sum=clipped_sum, largest_ratio_gap=(ratio.detach() - 1).abs().max())
