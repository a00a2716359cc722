"""Batches: prompts padded on the left and completions on the right, so that all completions begin at the same position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fires_exp.prompts.processor import EncodedPrompt


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelInputs:
    """A padded batch of B sequences of T tokens, each a prompt with or without a completion.

    input_ids, token_types [B, T] int64 · attention_mask [B, T] bool, True = counts · pixel_values [patches of all rows, 1176]
    and image_grid_thw [images of all rows, 3], in row order · completion_ids [B, C] int64 and completion_mask [B, C] bool: the
    last C columns; C = 0 without completions.
    """

    input_ids: Tensor
    attention_mask: Tensor
    token_types: Tensor
    pixel_values: Tensor
    image_grid_thw: Tensor
    completion_ids: Tensor
    completion_mask: Tensor

    def to(self, device: torch.device | str) -> ModelInputs:
        return replace(self, **{name: getattr(self, name).to(device) for name in self.__slots__})


def collate(prompts: Sequence[EncodedPrompt], completions: Sequence[Tensor] | None = None, *, pad_id: int) -> ModelInputs:
    """One row per prompt, followed by its completion (ids [C]) if `completions` are given, one per prompt."""
    if completions is None:
        completions = [torch.zeros(0, dtype=torch.long)] * len(prompts)
    ids = pad_sequence([prompt.prompt_ids for prompt in prompts], True, pad_id, padding_side="left")
    mask = lengths_mask([len(prompt.prompt_ids) for prompt in prompts]).flip(1)
    types = pad_sequence([prompt.token_types for prompt in prompts], True, 0, padding_side="left")
    completion_ids = pad_sequence(list(completions), True, pad_id)
    completion_mask = lengths_mask([len(completion) for _, completion in zip(prompts, completions, strict=True)])
    return ModelInputs(
        input_ids=torch.cat([ids, completion_ids], dim=1),
        attention_mask=torch.cat([mask, completion_mask], dim=1),
        token_types=torch.cat([types, torch.zeros_like(completion_ids)], dim=1),
        pixel_values=torch.cat([prompt.pixel_values for prompt in prompts]),
        image_grid_thw=torch.cat([prompt.image_grid_thw for prompt in prompts]),
        completion_ids=completion_ids,
        completion_mask=completion_mask,
    )


def lengths_mask(lengths: Sequence[int]) -> Tensor:
    """[B, max(lengths)] bool: True for the first `length` columns of each row."""
    return torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
