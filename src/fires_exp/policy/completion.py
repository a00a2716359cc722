"""A sampled completion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from fires_exp.policy.policy import Policy

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """ids [C], with the end-of-turn token if it was sampled · logprobs [C] float32, of each token when it was sampled, before
    top-p · text, decoded without special tokens."""

    ids: Tensor
    logprobs: Tensor
    text: str
    finish_reason: FinishReason


def completion_of(policy: Policy, ids: Tensor, logprobs: Tensor) -> Completion:
    """The record of sampled ids [C] and their log-probabilities [C], both on the CPU."""
    text = policy.processor.tokenizer.decode(ids, skip_special_tokens=True)
    stopped = int(ids[-1]) == policy.eos_id
    return Completion(ids=ids, logprobs=logprobs, text=text, finish_reason="stop" if stopped else "length")
