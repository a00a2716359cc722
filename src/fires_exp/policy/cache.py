"""A cache of keys and values that decoding writes into, instead of copying it for every token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


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
