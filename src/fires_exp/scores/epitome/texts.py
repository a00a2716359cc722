"""Texts as an encoder of the BERT family reads them: lower case, cut off, padded with a mask."""

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
    """Ids [T] of a text with the span [start, end) of characters that each stands for; special tokens stand for none."""

    ids: Tensor
    spans: tuple[tuple[int, int], ...]


class TextReader:
    """A tokenizer with the scorers' conventions: lower case and at most `max_tokens` tokens, as the cited code has them."""

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens

    def __call__(self, texts: Sequence[str]) -> list[Tokens]:
        """Each text's tokens. An empty text still has its first and last token."""
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
    """Lower case, letter by letter, so that the text keeps its length and spans keep their places."""
    lowered = text.lower()
    if len(lowered) == len(text):
        return lowered
    return "".join(small if len(small := letter.lower()) == 1 else letter for letter in text)


def pad(rows: Sequence[Tensor], value: int) -> tuple[Tensor, Tensor]:
    """Rows of different lengths as one tensor [B, T, …] and their mask [B, T]."""
    return pad_sequence(list(rows), batch_first=True, padding_value=value), lengths_mask([len(row) for row in rows])
