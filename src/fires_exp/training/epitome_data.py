"""Labeled pairs as tensors: what every mechanism and loss learns from, read once."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fires_exp.data.readers.epitome import SupportPair
from fires_exp.scores.epitome.texts import Tokens, pad
from fires_exp.training.stepped_module import chunks

IGNORED = -100
ENCODING_BATCH_SIZE = 64
# batches are cut from pools of so many batches that were sorted by length, so that little is padded
POOL_BATCHES = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class LabeledPair:
    """A pair as one mechanism learns it: the post's states [S, H], the response's ids [T] or frozen states [T, H], its level, and
    a rationale bit for each token [T], `IGNORED` at special tokens."""

    seeker: Tensor
    response: Tensor
    level: int
    rationale: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedPairs:
    """The pairs of a split as tensors that every mechanism and loss shares: posts [S, H], responses [T] or [T, H], and tokens."""

    pairs: tuple[SupportPair, ...]
    seekers: list[Tensor]
    responses: list[Tensor]
    tokens: list[Tokens]

    def labeled(self, mechanism: int) -> list[LabeledPair]:
        """The pairs with one mechanism's labels."""
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
    """[T] 1 at tokens that touch a span, 0 at others, `IGNORED` at special tokens. Without a span every real token is 1, as in
    the code that the paper cites."""
    return torch.tensor(
        [
            IGNORED if start == end else int(not spans or any(start < last and end > first for first, last in spans))
            for start, end in tokens.spans
        ]
    )


@torch.no_grad()
def read_states(
    read: Callable[[Tensor, Tensor], Tensor], tokens: Sequence[Tokens], pad_id: int, device: torch.device
) -> list[Tensor]:
    """What `read` makes of each text's ids and mask, [T, H] or [T], without padding, on the CPU."""
    found: dict[int, Tensor] = {}
    order = sorted(range(len(tokens)), key=lambda place: len(tokens[place].ids))
    for places in chunks(order, ENCODING_BATCH_SIZE):
        ids, mask = pad([tokens[place].ids for place in places], pad_id)
        for place, row in zip(places, read(ids.to(device), mask.to(device)).cpu(), strict=True):
            found[place] = row[: len(tokens[place].ids)].clone()
    return [found[place] for place in range(len(tokens))]


def length_batches(lengths: Sequence[int], *, batch_size: int, epochs: int, seed: int) -> list[list[int]]:
    """Places of the pairs of each step: every epoch a new seeded order, in batches of similar length."""
    steps: list[list[int]] = []
    for epoch in range(epochs):
        order = list(range(len(lengths)))
        rng = random.Random(f"{seed}/{epoch}")  # noqa: S311  an order, not a secret
        rng.shuffle(order)
        batches = [
            list(batch)
            for pool in chunks(order, POOL_BATCHES * batch_size)
            for batch in chunks(sorted(pool, key=lambda place: lengths[place]), batch_size)
        ]
        rng.shuffle(batches)
        steps.extend(batches)
    return steps
