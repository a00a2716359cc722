"""EPITOME's bi-encoder (Sharma et al., 2020, section 4), one per mechanism.

One pretrained encoder reads the seeker's post, another the response. A single attention head lets every token of the response
attend to the post; the level is read at the response's first token, a rationale bit at every token. The seeker's encoder is
frozen, and so are the response encoder's embeddings and lowest `frozen_layers` layers: the mechanisms share the frozen parts, so
that a text passes through them once. Unlike in the published code padding is masked everywhere, so that a level does not depend
on the batch.

Shape letters: T tokens of a response, U tokens of the seeker's post, D hidden size.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

LEVEL_COUNT = 3


class Layers(nn.Module):
    """A copy of consecutive layers of a pretrained encoder of the BERT family, with or without its embeddings."""

    def __init__(self, encoder: Any, first: int, last: int, *, embeddings: bool, dropout: float) -> None:
        super().__init__()
        self.embeddings = copy.deepcopy(encoder.embeddings) if embeddings else None
        self.layers = copy.deepcopy(encoder.encoder.layer[first:last])
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
            elif isinstance(getattr(module, "dropout", None), float):
                module.dropout = dropout  # type: ignore[assignment]

    def forward(self, inputs: Tensor, mask_BT: Tensor) -> Tensor:
        """States [B, T, D] from token ids [B, T], or without embeddings from states [B, T, D]. The mask is True at tokens."""
        states = inputs if self.embeddings is None else self.embeddings(input_ids=inputs)
        bias = torch.zeros(mask_BT.shape, dtype=states.dtype, device=states.device)
        bias = bias.masked_fill(~mask_BT, torch.finfo(states.dtype).min)[:, None, None, :]
        for layer in self.layers:
            states = layer(states, attention_mask=bias)
        return states


class Mechanism(nn.Module):
    """The trained parts of one mechanism: upper layers of the response encoder, attention to the post, and two heads."""

    def __init__(self, upper: Layers, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.upper = upper
        self.attention = nn.MultiheadAttention(hidden_size, num_heads=1, batch_first=True)
        self.level = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_size, LEVEL_COUNT),
        )
        self.rationale = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden_size, 2))

    def forward(
        self, response_BT: Tensor, response_mask_BT: Tensor, seeker_BUD: Tensor, seeker_mask_BU: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits of the level [B, 3] and of the rationale bits [B, T, 2]."""
        states = self.upper(response_BT, response_mask_BT)
        attended, _ = self.attention(states, seeker_BUD, seeker_BUD, key_padding_mask=~seeker_mask_BU, need_weights=False)
        states = states + attended
        return self.level(states[:, 0]), self.rationale(states)


class Trunk(nn.Module):
    """The frozen parts that the mechanisms share: the encoder of posts, and any frozen layers of the response encoder."""

    def __init__(self, encoder: Any, frozen_layers: int | None) -> None:
        super().__init__()
        depth = len(encoder.encoder.layer)
        self.frozen_layers = frozen_layers
        self.lower = Layers(encoder, 0, frozen_layers or 0, embeddings=True, dropout=0.0)
        self.rest = Layers(encoder, frozen_layers or 0, depth, embeddings=False, dropout=0.0)
        self.requires_grad_(False)

    def seeker(self, ids_BU: Tensor, mask_BU: Tensor) -> Tensor:
        """States of posts [B, U, D]."""
        states: Tensor = self.rest(self.lower(ids_BU, mask_BU), mask_BU)
        return states

    def response(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """The mechanisms' input for responses: states [B, T, D], or the ids [B, T] if no layer is frozen."""
        return ids_BT if self.frozen_layers is None else self.lower(ids_BT, mask_BT)


def new_mechanism(encoder: Any, frozen_layers: int | None, *, dropout: float, encoder_dropout: float) -> Mechanism:
    """An untrained mechanism on a pretrained encoder. Its new weights are drawn from torch's global random state."""
    depth = len(encoder.encoder.layer)
    upper = Layers(encoder, frozen_layers or 0, depth, embeddings=frozen_layers is None, dropout=encoder_dropout)
    return Mechanism(upper, encoder.config.hidden_size, dropout)
