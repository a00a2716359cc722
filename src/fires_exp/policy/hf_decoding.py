"""Decoding by the stock transformers model, with left-padded prompts in one batch.

The fallback for backbones that the native passes do not support, and the reference that native decoding is tested against. Its
cache writes keys and values in place instead of copying the whole cache for every token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from fires_exp.policy.policy import Policy
from fires_exp.prompts.collate import collate
from fires_exp.prompts.processor import EncodedPrompt


class HfDecoding:
    """The interface of `NativeDecoding`, by the stock model. A prompt's keys and values are copied for each completion."""

    def __init__(self, policy: Policy, prompts: Sequence[EncodedPrompt], generations: int, max_new_tokens: int) -> None:
        self.policy = policy
        self.generations = generations
        self.inputs = collate(prompts, pad_id=policy.pad_id).to(policy.device)
        self.cache = preallocated_cache(policy.qwen.config.text_config.num_hidden_layers, max_new_tokens)
        self.step = 0

    def first_logits(self) -> Tensor:
        logits_PV: Tensor = self.policy(self.inputs, logits_to_keep=1, past_key_values=self.cache, use_cache=True).logits[:, -1]
        next_position_P = self.policy.positions(self.inputs).amax(dim=(0, 2)) + 1
        self.cache.batch_repeat_interleave(self.generations)
        self.mask_BT = self.inputs.attention_mask.long().repeat_interleave(self.generations, dim=0)
        self.position_B = next_position_P.repeat_interleave(self.generations)
        return logits_PV.repeat_interleave(self.generations, dim=0)

    def next_logits(self, ids_B: Tensor) -> Tensor:
        self.mask_BT = torch.cat([self.mask_BT, torch.ones_like(self.mask_BT[:, :1])], dim=1)
        logits_BV: Tensor = self.policy.model(
            input_ids=ids_B[:, None],
            attention_mask=self.mask_BT,
            position_ids=(self.position_B + self.step)[None, :, None].expand(3, -1, -1),
            past_key_values=self.cache,
            use_cache=True,
        ).logits[:, -1]
        self.step += 1
        return logits_BV

    def select(self, rows: Tensor) -> None:
        self.mask_BT, self.position_B = self.mask_BT[rows], self.position_B[rows]
        self.cache.batch_select_indices(rows)


class PreallocatedLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values [B, K, T, W], with space for `max_new_tokens` more tokens than the first update holds.

    The stock layer concatenates, which copies the whole cache for every token: a quarter of a decoding step on a CPU. Only
    without gradients, since it writes in place.
    """

    def __init__(self, max_new_tokens: int) -> None:
        super().__init__()
        self.max_new_tokens = max_new_tokens
        self.capacity = 0
        self.buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append keys and values [B, K, new tokens, W]; returns all keys and values up to now."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
            return self.keys, self.values
        length = self.get_seq_length()
        end = length + key_states.shape[-2]
        if self.buffers is None or end > self.capacity:
            self.capacity = max(self.capacity, length + self.max_new_tokens, end)
            self.buffers = self._buffer_with(self.keys), self._buffer_with(self.values)
        keys, values = self.buffers
        keys[:, :, length:end] = key_states
        values[:, :, length:end] = value_states
        self.keys, self.values = keys[:, :, :end], values[:, :, :end]
        return self.keys, self.values

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        self.buffers = None

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)
        self.buffers = None

    def _buffer_with(self, states_BKTW: Tensor) -> Tensor:
        batch, key_heads, length, width = states_BKTW.shape
        buffer = torch.empty(batch, key_heads, self.capacity, width, dtype=states_BKTW.dtype, device=states_BKTW.device)
        buffer[:, :, :length] = states_BKTW
        return buffer


def preallocated_cache(layers: int, max_new_tokens: int) -> Cache:
    """A cache of `layers` layers that writes up to `max_new_tokens` decoded tokens in place."""
    return Cache(layers=[PreallocatedLayer(max_new_tokens) for _ in range(layers)])
