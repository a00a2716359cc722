"""Labeled pairs as tensors. The pairs are encoded once and shared by all mechanisms and losses."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fires_exp.data.chunking import chunks
from fires_exp.data.readers.epitome import SupportPair
from fires_exp.scores.epitome.texts import Tokens, pad

IGNORED = -100
ENCODING_BATCH_SIZE = 64
# batches are cut from length-sorted pools of this many batches, so that they need little padding
POOL_BATCHES = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class LabeledPair:
    """A pair with the labels of one mechanism.

    seeker      encoder states of the seeker post, [S, D]
    response    ids [T], or states [T, D] of the frozen layers
    level       0, 1 or 2
    rationale   [T] int64, 1 at rationale tokens, 0 at others, `IGNORED` at special tokens
    """

    seeker: Tensor
    response: Tensor
    level: int
    rationale: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedPairs:
    """The pairs of a split as tensors without labels: seeker posts [S, D], responses [T] or [T, D], and response tokens."""

    pairs: tuple[SupportPair, ...]
    seekers: list[Tensor]
    responses: list[Tensor]
    tokens: list[Tokens]

    def labeled(self, mechanism: int) -> list[LabeledPair]:
        """The pairs with the labels of the mechanism at this index of `MECHANISMS`."""
        return [
            LabeledPair(
                seeker=seeker,
                response=response,
                level=pair.labels[mechanism].level,
                rationale=rationale_bits(tokens, pair.labels[mechanism].spans),
            )
            for pair, seeker, response, tokens in zip(self.pairs, self.seekers, self.responses, self.tokens, strict=True)
        ]


def rationale_bits(tokens: Tokens, spans: Sequence[tuple[int, int]]) -> Tensor:
    """[T] int64: 1 at tokens that overlap a span, 0 at others, `IGNORED` at special tokens. Without spans all other tokens are 1,
    as in the code of Sharma et al."""
    return torch.tensor(
        [
            IGNORED if start == end else int(not spans or any(start < last and end > first for first, last in spans))
            for start, end in tokens.spans
        ]
    )


@torch.no_grad()
def encode_texts(
    encode: Callable[[Tensor, Tensor], Tensor], tokens: Sequence[Tokens], pad_id: int, device: torch.device
) -> list[Tensor]:
    """`encode(ids, mask)` of each text, [T, D] or [T] without padding, on the CPU."""
    encoded: dict[int, Tensor] = {}
    by_length = sorted(range(len(tokens)), key=lambda index: len(tokens[index].ids))
    for indices in chunks(by_length, ENCODING_BATCH_SIZE):
        ids, mask = pad([tokens[index].ids for index in indices], pad_id)
        for index, row in zip(indices, encode(ids.to(device), mask.to(device)).cpu(), strict=True):
            encoded[index] = row[: len(tokens[index].ids)].clone()
    return [encoded[index] for index in range(len(tokens))]


def length_batches(lengths: Sequence[int], *, batch_size: int, epochs: int, seed: int) -> list[list[int]]:
    """Indices of the pairs of each step. Every epoch has a new seeded order and batches of similar length."""
    steps: list[list[int]] = []
    for epoch in range(epochs):
        order = list(range(len(lengths)))
        rng = random.Random(f"{seed}/{epoch}")  # noqa: S311  an order, not a secret
        rng.shuffle(order)
        batches = [
            list(batch)
            for pool in chunks(order, POOL_BATCHES * batch_size)
            for batch in chunks(sorted(pool, key=lambda index: lengths[index]), batch_size)
        ]
        rng.shuffle(batches)
        steps.extend(batches)
    return steps
