"""EPITOME's bi-encoder (Sharma et al., 2020, section 4): one for each mechanism.

A pretrained encoder reads the seeker's post, another the response; a single attention head lets every token of the response look
at the post; the level is read at the response's first token, a rationale bit at every token. The seeker's encoder is frozen, and
so are the response encoder's embeddings and lowest layers where `frozen_layers` says so: the mechanisms then share them, and a
text goes through them once. Unlike in the published code padding is masked everywhere: what is in a batch changes no level.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

LEVEL_COUNT = 3


class Layers(nn.Module):
    """Consecutive layers of a pretrained encoder of the BERT family, with its embeddings if they are among them."""

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
        """Token ids [B, T] where the embeddings are here, else states [B, T, H]; the mask is True at real tokens -> [B, T, H]."""
        states = inputs if self.embeddings is None else self.embeddings(input_ids=inputs)
        bias = torch.zeros(mask_BT.shape, dtype=states.dtype, device=states.device)
        bias = bias.masked_fill(~mask_BT, torch.finfo(states.dtype).min)[:, None, None, :]
        for layer in self.layers:
            states = layer(states, attention_mask=bias)
        return states


class Mechanism(nn.Module):
    """What one mechanism learns: the upper layers of the response encoder, the attention to the post, and two heads."""

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
        self, response_BT: Tensor, response_mask_BT: Tensor, seeker_BSH: Tensor, seeker_mask_BS: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits of the level [B, 3] and of the rationale bits [B, T, 2]."""
        states = self.upper(response_BT, response_mask_BT)
        seen, _ = self.attention(states, seeker_BSH, seeker_BSH, key_padding_mask=~seeker_mask_BS, need_weights=False)
        states = states + seen
        return self.level(states[:, 0]), self.rationale(states)


class Trunk(nn.Module):
    """What the mechanisms share and nothing trains: the encoder of posts, and the frozen part of the one of responses if any."""

    def __init__(self, encoder: Any, frozen_layers: int | None) -> None:
        super().__init__()
        depth = len(encoder.encoder.layer)
        self.frozen_layers = frozen_layers
        self.lower = Layers(encoder, 0, frozen_layers or 0, embeddings=True, dropout=0.0)
        self.rest = Layers(encoder, frozen_layers or 0, depth, embeddings=False, dropout=0.0)
        self.requires_grad_(False)

    def seeker(self, ids_BS: Tensor, mask_BS: Tensor) -> Tensor:
        """States of posts, [B, S, H]."""
        states: Tensor = self.rest(self.lower(ids_BS, mask_BS), mask_BS)
        return states

    def response(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        """What the mechanisms read of responses: states [B, T, H], or the ids themselves where nothing is frozen."""
        return ids_BT if self.frozen_layers is None else self.lower(ids_BT, mask_BT)


def new_mechanism(encoder: Any, frozen_layers: int | None, *, dropout: float, encoder_dropout: float) -> Mechanism:
    """An untrained mechanism on top of a pretrained encoder; fresh weights come from torch's random state."""
    depth = len(encoder.encoder.layer)
    upper = Layers(encoder, frozen_layers or 0, depth, embeddings=frozen_layers is None, dropout=encoder_dropout)
    return Mechanism(upper, encoder.config.hidden_size, dropout)
