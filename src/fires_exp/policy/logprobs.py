"""Log-probabilities of completions under a policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from fires_exp.policy.policy import Policy
from fires_exp.prompts.collate import ModelInputs, collate, lengths_mask
from fires_exp.prompts.processor import EncodedPrompt


@dataclass(frozen=True, kw_only=True, slots=True)
class CompletionLogprobs:
    """logprobs_BC [B, C] float32, zero where the mask is False · entropy_BC [B, C] float32, in nats, without gradient."""

    logprobs_BC: Tensor
    entropy_BC: Tensor


def completion_logprobs(policy: Policy, inputs: ModelInputs, temperature: float) -> CompletionLogprobs:
    """log pi(o_t | q, o_<t) of every completion token, at the temperature that sampling used."""
    width = inputs.completion_ids.shape[1]
    logits_BCV = policy(inputs, logits_to_keep=width + 1, use_cache=False).logits[:, :-1]
    return _read_off(policy, logits_BCV, inputs.completion_ids, inputs.completion_mask, temperature)


def group_logprobs(
    policy: Policy, prompt: EncodedPrompt, completions: Sequence[Tensor], temperature: float
) -> CompletionLogprobs:
    """The same for several completions (ids [T]) of one prompt, which is read once: its keys and values serve all of them.

    Gradients flow back through the shared keys and values and add up there, so they too are those of G separate sequences.
    Dropout would fall differently. Not under gradient checkpointing, which switches the cache off.
    """
    inputs = collate([prompt], pad_id=policy.pad_id).to(policy.device)
    ids_GC = pad_sequence(list(completions), batch_first=True, padding_value=policy.pad_id).to(policy.device)
    mask_GC = lengths_mask([len(ids) for ids in completions]).to(policy.device)
    cache = DynamicCache(config=policy.qwen.config.text_config)
    first_1V = policy(inputs, logits_to_keep=1, past_key_values=cache, use_cache=True).logits[:, -1]
    logits_GCV = first_1V[:, None].expand(len(ids_GC), 1, -1)
    if ids_GC.shape[1] > 1:
        cache.batch_repeat_interleave(len(ids_GC))
        prompt_length = inputs.input_ids.shape[1]
        start = policy.positions(inputs).max() + 1
        positions_C = start + torch.arange(ids_GC.shape[1] - 1, device=policy.device)
        rest_GCV = policy.model(
            input_ids=ids_GC[:, :-1],
            attention_mask=torch.cat([mask_GC.new_ones(len(ids_GC), prompt_length), mask_GC[:, :-1]], dim=1).long(),
            position_ids=positions_C.expand(3, len(ids_GC), -1),
            past_key_values=cache,
            use_cache=True,
        ).logits
        logits_GCV = torch.cat([logits_GCV, rest_GCV], dim=1)
    return _read_off(policy, logits_GCV, ids_GC, mask_GC, temperature)


def _read_off(policy: Policy, logits_BCV: Tensor, ids_BC: Tensor, mask_BC: Tensor, temperature: float) -> CompletionLogprobs:
    all_logprobs_BCV = token_logprobs(policy, logits_BCV, temperature)
    logprobs_BC = all_logprobs_BCV.gather(-1, ids_BC[..., None]).squeeze(-1)
    with torch.no_grad():
        entropy_BC = -(all_logprobs_BCV.exp() * all_logprobs_BCV.masked_fill(policy.suppressed_V, 0.0)).sum(-1)
    return CompletionLogprobs(
        logprobs_BC=logprobs_BC.masked_fill(~mask_BC, 0.0), entropy_BC=entropy_BC.masked_fill(~mask_BC, 0.0)
    )


def token_logprobs(policy: Policy, logits: Tensor, temperature: float) -> Tensor:
    """Logits [..., V] of any dtype to float32 log-probabilities: suppressed tokens out, then the temperature."""
    logits = logits.float().masked_fill(policy.suppressed_V, float("-inf"))
    return torch.log_softmax(logits / temperature, dim=-1)
