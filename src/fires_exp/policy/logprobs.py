"""Log-probabilities of completions under a policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fires_exp.policy.native.shared_prefix import shared_prefix_logprobs
from fires_exp.policy.policy import Policy
from fires_exp.prompts.collate import ModelInputs
from fires_exp.prompts.processor import EncodedPrompt


@dataclass(frozen=True, kw_only=True, slots=True)
class CompletionLogprobs:
    """logprobs_BC [B, C] float32, zero where the mask is False · entropy_BC [B, C] float32, in nats, without gradient."""

    logprobs_BC: Tensor
    entropy_BC: Tensor


def completion_logprobs(policy: Policy, inputs: ModelInputs, temperature: float) -> CompletionLogprobs:
    """log pi(o_t | q, o_<t) of every completion token of a padded batch, at the temperature that sampling used."""
    width = inputs.completion_ids.shape[1]
    logits_BCV = policy(inputs, logits_to_keep=width + 1, use_cache=False).logits[:, :-1]
    return _gather(policy, logits_BCV, inputs.completion_ids, inputs.completion_mask, temperature)


def group_logprobs(
    policy: Policy, prompt: EncodedPrompt, completions: Sequence[Tensor], temperature: float, *, recompute: bool
) -> CompletionLogprobs:
    """The same for the completions (ids [C] each) of one prompt, which is read once for all of them, by the native pass.

    `recompute` is gradient checkpointing. With LoRA dropout the random masks differ from those of separate sequences.
    """
    logprobs_GC, entropy_GC = shared_prefix_logprobs(policy, prompt, completions, temperature, recompute=recompute)
    return CompletionLogprobs(logprobs_BC=logprobs_GC, entropy_BC=entropy_GC.detach())


def _gather(policy: Policy, logits_BCV: Tensor, ids_BC: Tensor, mask_BC: Tensor, temperature: float) -> CompletionLogprobs:
    all_logprobs_BCV = token_logprobs(policy, logits_BCV, temperature)
    logprobs_BC = all_logprobs_BCV.gather(-1, ids_BC[..., None]).squeeze(-1)
    with torch.no_grad():
        entropy_BC = -(all_logprobs_BCV.exp() * all_logprobs_BCV.masked_fill(policy.suppressed_V, 0.0)).sum(-1)
    return CompletionLogprobs(
        logprobs_BC=logprobs_BC.masked_fill(~mask_BC, 0.0), entropy_BC=entropy_BC.masked_fill(~mask_BC, 0.0)
    )


def token_logprobs(policy: Policy, logits: Tensor, temperature: float) -> Tensor:
    """Float32 log-probabilities from logits [..., V] of any dtype: suppressed tokens are masked, then the temperature applies."""
    logits = logits.float().masked_fill(policy.suppressed_V, float("-inf"))
    return torch.log_softmax(logits / temperature, dim=-1)
