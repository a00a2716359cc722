"""A check that frames matter: the frames of two instances are swapped and the change in log-probabilities is measured."""

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

MAX_EXAMPLES = 64


def swap_frames(first: EncodedPrompt, second: EncodedPrompt) -> EncodedPrompt | None:
    """`first` with the frames of `second`; None unless both have frames, of the same sizes, so that the tokens stay the same."""
    if not len(first.image_grid_thw) or not torch.equal(first.image_grid_thw, second.image_grid_thw):
        return None
    return replace(first, pixel_values=second.pixel_values)


@torch.no_grad()
def frame_effect(policy: Policy, prompt: EncodedPrompt, swapped: EncodedPrompt, completion_ids: Tensor) -> float:
    """Mean absolute difference, in nats per token, of a completion's log-probabilities under a prompt and its swapped copy."""
    with policy.evaluating():
        inputs = collate([prompt, swapped], [completion_ids, completion_ids], pad_id=policy.pad_id).to(policy.device)
        logprobs_BC = completion_logprobs(policy, inputs, temperature=1.0).logprobs_BC
    return float((logprobs_BC[0] - logprobs_BC[1]).abs().mean())


def frame_sensitivity(
    policy: Policy,
    examples: Sequence[SupportExample],
    encode: Callable[[SupportExample], EncodedPrompt],
    completion_ids: Callable[[SupportExample], Tensor],
) -> dict[str, Any] | None:
    """The effect of swapping frames between the first two instances whose frames differ and have the same sizes.

    The keys are `instance`, `frames_of` (the other instance) and `nats_per_token`. None if there is no such pair among the first
    `MAX_EXAMPLES`.
    """
    earlier: list[EncodedPrompt] = []
    for example in examples[:MAX_EXAMPLES]:
        prompt = encode(example)
        for other in earlier:
            if (swapped := swap_frames(prompt, other)) is not None and not torch.equal(prompt.pixel_values, other.pixel_values):
                effect = frame_effect(policy, prompt, swapped, completion_ids(example))
                log.info(
                    "frame sensitivity: with the frames of %s, log-probabilities of %s change by %.4f nats per token%s",
                    other.example.id,
                    example.id,
                    effect,
                    "" if effect > 0 else ": FRAMES HAVE NO EFFECT",
                )
                return {"instance": example.id, "frames_of": other.example.id, "nats_per_token": effect}
        earlier.append(prompt)
    return None
