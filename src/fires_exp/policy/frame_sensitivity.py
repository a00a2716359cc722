"""Small trials that a real run makes of itself and prints."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fires_exp.data.records import SupportExample
from fires_exp.policy.logprobs import completion_logprobs
from fires_exp.policy.policy import Policy
from fires_exp.prompts.collate import collate
from fires_exp.prompts.processor import EncodedPrompt

log = logging.getLogger("fires_exp.pipeline")

EXAMPLES_TRIED = 64


def swap_frames(first: EncodedPrompt, second: EncodedPrompt) -> EncodedPrompt | None:
    """`first` seeing the frames of `second`; None unless both have frames of the same sizes, which need no new tokens."""
    if not len(first.image_grid_thw) or not torch.equal(first.image_grid_thw, second.image_grid_thw):
        return None
    return replace(first, pixel_values=second.pixel_values)


@torch.no_grad()
def picture_effect(policy: Policy, prompt: EncodedPrompt, swapped: EncodedPrompt, completion_ids: Tensor) -> float:
    """Mean |difference| in nats of a completion's log-probabilities when the frames are another instance's."""
    with policy.evaluating():
        inputs = collate([prompt, swapped], [completion_ids, completion_ids], pad_id=policy.pad_id).to(policy.device)
        logprobs_BC = completion_logprobs(policy, inputs, temperature=1.0).logprobs_BC
    return float((logprobs_BC[0] - logprobs_BC[1]).abs().mean())


def picture_canary(
    policy: Policy,
    examples: Sequence[SupportExample],
    encode: Callable[[SupportExample], EncodedPrompt],
    completion_ids: Callable[[SupportExample], Tensor],
) -> dict[str, Any] | None:
    """Swap the frames of the first two instances that can be swapped and say what it changes; None where none can."""
    seen: list[EncodedPrompt] = []
    for example in examples[:EXAMPLES_TRIED]:
        prompt = encode(example)
        for other in seen:
            if (swapped := swap_frames(prompt, other)) is not None and not torch.equal(prompt.pixel_values, other.pixel_values):
                effect = picture_effect(policy, prompt, swapped, completion_ids(example))
                log.info(
                    "picture canary: with the frames of %s, log-probabilities of %s change by %.4f nats a token%s",
                    other.example.id,
                    example.id,
                    effect,
                    "" if effect > 0 else ": PICTURES HAVE NO EFFECT",
                )
                return {"instance": example.id, "frames_of": other.example.id, "nats_per_token": effect}
        seen.append(prompt)
    return None
