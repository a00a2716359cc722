"""Decoding by the stock model, left-padded prompts in one batch: what `decode.py` is held to, and its stand-in.

Its cache writes keys and values in place instead of copying them for every token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from fires_exp.policy.policy import Policy
from fires_exp.prompts.collate import collate
from fires_exp.prompts.processor import EncodedPrompt


class StockDecoding:
    """The same as `NativeDecoding`, by the stock model; the prompts' keys and values are copied for each completion."""

    def __init__(self, policy: Policy, prompts: Sequence[EncodedPrompt], generations: int, room: int) -> None:
        self.policy = policy
        self.generations = generations
        self.inputs = collate(prompts, pad_id=policy.pad_id).to(policy.device)
        self.cache = roomy_cache(policy.qwen.config.text_config.num_hidden_layers, room)
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

    def keep(self, rows_B: Tensor) -> None:
        self.mask_BT, self.position_B = self.mask_BT[rows_B], self.position_B[rows_B]
        self.cache.batch_select_indices(rows_B)


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values [B, heads, T, width] with room for `room` more tokens than it held when it was first added to.

    The stock layer concatenates, which copies everything once a token: a quarter of a decoding step on a CPU. Without gradient
    only, since it writes in place.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room
        self.capacity = 0
        self.buffers: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Add states [B, heads, t, width]; all that is held now."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
            return self.keys, self.values
        length = self.get_seq_length()
        end = length + key_states.shape[-2]
        if self.buffers is None or end > self.capacity:
            self.capacity = max(self.capacity, length + self.room, end)
            self.buffers = self._with_room(self.keys), self._with_room(self.values)
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

    def _with_room(self, held: Tensor) -> Tensor:
        batch, heads, length, width = held.shape
        buffer = torch.empty(batch, heads, self.capacity, width, dtype=held.dtype, device=held.device)
        buffer[:, :, :length] = held
        return buffer


def roomy_cache(layers: int, room: int) -> Cache:
    """A cache for `layers` layers that decodes up to `room` tokens in place."""
    return Cache(layers=[RoomyLayer(room) for _ in range(layers)])
