"""Tokenized texts for encoders of the BERT family: lower case, truncated, padded with a mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fires_exp.prompts.collate import lengths_mask


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokens:
    """ids [T] of a text, and for each token the span [start, end) of its characters; the span of a special token is empty."""

    ids: Tensor
    spans: tuple[tuple[int, int], ...]


class TextReader:
    """A tokenizer with the scorers' conventions: lower case and at most `max_tokens` tokens, as in the published code."""

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        """The tokens of each text. An empty text has its two special tokens."""
        if not texts:
            return []
        encoded = self.tokenizer(
            [lower_case(text) for text in texts],
            truncation=True,
            max_length=self.max_tokens,
            return_offsets_mapping=True,
        )
        return [
            Tokens(ids=torch.tensor(ids), spans=tuple((int(start), int(end)) for start, end in spans))
            for ids, spans in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        ]


def lower_case(text: str) -> str:
    """Lower case without a change of length, so that character spans stay valid: a letter whose lower case is longer is kept."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(small if len(small := letter.lower()) == 1 else letter for letter in text)


def pad(rows: Sequence[Tensor], value: int) -> tuple[Tensor, Tensor]:
    """Rows of different lengths as one tensor [B, T, …] and their mask [B, T], True at real tokens."""
    return pad_sequence(list(rows), batch_first=True, padding_value=value), lengths_mask([len(row) for row in rows])
