"""A sampled completion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from fires_exp.policy.policy import Policy

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """A sampled completion: ids [T] with the closing end-of-turn token if it came to one, the log-probability [T] that each
    token had when it was drawn (before top-p), its text without special tokens."""

    ids: Tensor
    logprobs: Tensor
    text: str
    finish_reason: FinishReason


def completion_of(policy: Policy, ids: Tensor, logprobs: Tensor) -> Completion:
    """A completion from what was drawn, on the CPU."""
    text = policy.processor.tokenizer.decode(ids, skip_special_tokens=True)
    stopped = int(ids[-1]) == policy.eos_id
    return Completion(ids=ids, logprobs=logprobs, text=text, finish_reason="stop" if stopped else "length")
