"""Sampling completions: the prompt is read once, its cache serves all G completions, finished rows leave the batch.

Each completion is sampled from a random stream of its own. It therefore depends on (seed, prompt, g) alone, and not on the other
prompts of the batch, on the device that samples it, or on what was sampled before.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from fires_exp.config.model import Engine, SamplingConfig
from fires_exp.policy.completion import Completion, completion_of
from fires_exp.policy.hf_decoding import HfDecoding
from fires_exp.policy.logprobs import token_logprobs
from fires_exp.policy.native.decoding import NativeDecoding
from fires_exp.policy.policy import Policy
from fires_exp.policy.vllm_decoding import VllmEngine
from fires_exp.prompts.processor import EncodedPrompt

# finished rows leave the batch once they are this share of it; each time copies the cache
SHRINK_SHARE = 0.25

TokenCallback = Callable[[Tensor], None]
Seeds = Sequence[Sequence[int]]


def stream_seed(*parts: object) -> int:
    """A seed that depends on all parts and on nothing else, the same on every machine and in every process."""
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()[:8], "big") >> 1


def sample_completions(
    policy: Policy, prompts: Sequence[EncodedPrompt], config: SamplingConfig, seeds: Seeds
) -> list[list[Completion]]:
    """`len(seeds[p])` completions of each prompt p, the same number for every prompt. Temperature 0 is greedy decoding."""
    return stream_completions(policy, prompts, config, seeds, lambda ids_B: None)


def stream_completions(
    policy: Policy, prompts: Sequence[EncodedPrompt], config: SamplingConfig, seeds: Seeds, on_tokens: TokenCallback
) -> list[list[Completion]]:
    """`sample_completions`, calling `on_tokens` with the ids [remaining rows] of each step as they are sampled.

    The vLLM engine never calls it.
    """
    return _SAMPLERS[config.engine](policy, prompts, config, seeds, on_tokens)


class Decoding(Protocol):
    """Logits step by step, for a batch of P prompts with G completions each, row p · G + g."""

    def first_logits(self) -> Tensor:
        """Logits [B, V] of the first tokens."""
        ...

    def next_logits(self, ids_B: Tensor) -> Tensor:
        """Logits [B, V] of the tokens after `ids_B` [B]."""
        ...

    def select(self, rows: Tensor) -> None:
        """Continue with these rows alone, in this order."""
        ...


def _decode(
    decoding_class: Callable[[Policy, Sequence[EncodedPrompt], int, int], Decoding],
    policy: Policy,
    prompts: Sequence[EncodedPrompt],
    config: SamplingConfig,
    seeds: Seeds,
    on_tokens: TokenCallback,
) -> list[list[Completion]]:
    generations = len(seeds[0])
    with torch.inference_mode(), policy.evaluating():
        decoding = decoding_class(policy, prompts, generations, config.max_new_tokens)
        batch = _RunningBatch(policy, config, [seed for group in seeds for seed in group])
        logits_BV = decoding.first_logits()
        for step in range(config.max_new_tokens):
            ids_B = batch.sample(logits_BV, step)
            on_tokens(ids_B)
            if not batch.running_mask_b.any() or step + 1 == config.max_new_tokens:
                break
            if (rows := batch.shrink()) is not None:
                ids_B = ids_B[rows]
                decoding.select(rows)
            logits_BV = decoding.next_logits(ids_B)
    completions = batch.completions()
    return [completions[start : start + generations] for start in range(0, len(completions), generations)]


# one engine per policy, as long as the policy exists
_vllm_engines: WeakKeyDictionary[Policy, VllmEngine] = WeakKeyDictionary()


def _sample_with_vllm(
    policy: Policy, prompts: Sequence[EncodedPrompt], config: SamplingConfig, seeds: Seeds, on_tokens: TokenCallback
) -> list[list[Completion]]:
    if policy not in _vllm_engines:
        _vllm_engines[policy] = VllmEngine(policy)
    return _vllm_engines[policy].sample(policy, prompts, config, seeds)


Sampler = Callable[[Policy, Sequence[EncodedPrompt], SamplingConfig, Seeds, TokenCallback], list[list[Completion]]]

_SAMPLERS: Mapping[Engine, Sampler] = {
    Engine.native: partial(_decode, NativeDecoding),
    Engine.transformers: partial(_decode, HfDecoding),
    Engine.vllm: _sample_with_vllm,
}


class _RunningBatch:
    """What has been sampled so far for all B completions, and which of them are still in the decoded batch (b of B rows)."""

    def __init__(self, policy: Policy, config: SamplingConfig, seeds: Sequence[int]) -> None:
        self.policy = policy
        self.config = config
        self.row_b = torch.arange(len(seeds), device=policy.device)
        self.running_mask_b = torch.ones(len(seeds), dtype=torch.bool, device=policy.device)
        self.ids_BC = torch.full((len(seeds), config.max_new_tokens), policy.pad_id, device=policy.device)
        self.logprobs_BC = torch.zeros(len(seeds), config.max_new_tokens, device=policy.device)
        self.length_B = torch.zeros(len(seeds), dtype=torch.long, device=policy.device)
        uniforms = [torch.rand(config.max_new_tokens, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        self.uniform_BC = torch.stack(uniforms).to(policy.device)

    def sample(self, logits_bV: Tensor, step: int) -> Tensor:
        """Sample one token for each row of the decoded batch; finished rows get padding."""
        greedy = self.config.temperature == 0
        logprobs_bV = token_logprobs(self.policy, logits_bV, 1.0 if greedy else self.config.temperature)
        if greedy:
            ids_b = logprobs_bV.argmax(dim=-1)
        else:
            ids_b = draw_top_p(logprobs_bV, self.config.top_p, self.uniform_BC[self.row_b, step])
        sampled_b = logprobs_bV.gather(-1, ids_b[:, None]).squeeze(-1)
        rows = self.row_b[self.running_mask_b]
        self.ids_BC[rows, step] = ids_b[self.running_mask_b]
        self.logprobs_BC[rows, step] = sampled_b[self.running_mask_b]
        self.length_B[rows] = step + 1
        self.running_mask_b = self.running_mask_b & (ids_b != self.policy.eos_id)
        return ids_b.masked_fill(~self.running_mask_b, self.policy.pad_id)

    def shrink(self) -> Tensor | None:
        """Drop finished rows once there are enough of them: the indices of the rows that remain. None if the batch stays."""
        if (~self.running_mask_b).float().mean() < SHRINK_SHARE:
            return None
        remaining = self.running_mask_b.nonzero().squeeze(-1)
        self.row_b, self.running_mask_b = self.row_b[remaining], self.running_mask_b[remaining]
        return remaining

    def completions(self) -> list[Completion]:
        rows = zip(self.ids_BC.cpu(), self.logprobs_BC.cpu(), self.length_B.tolist(), strict=True)
        return [completion_of(self.policy, ids[:length].clone(), logprobs[:length].clone()) for ids, logprobs, length in rows]


def draw_top_p(logprobs_BV: Tensor, top_p: float, uniform_B: Tensor) -> Tensor:
    """Inverse-CDF sampling from the smallest set of most probable tokens whose probability reaches `top_p`, renormalized.

    `uniform_B` in [0, 1) determines the token [B]: row b takes the first token whose cumulative probability exceeds uniform_b
    times the set's total, with tokens ordered by falling probability (by id where `top_p` is 1).
    """
    if top_p == 1.0:
        return _draw_by_id(logprobs_BV.exp(), uniform_B.double())  # all tokens are in the set: no need to sort the vocabulary
    probs_BV, order_BV = logprobs_BV.double().exp().sort(dim=-1, descending=True, stable=True)
    cumulative_BV = probs_BV.cumsum(dim=-1)
    # a token is in the set if those before it have not reached top_p yet; the first always is
    size_B = ((cumulative_BV - probs_BV) < top_p).sum(dim=-1)
    total_B = cumulative_BV.gather(-1, (size_B - 1)[:, None]).squeeze(-1)
    index_B = torch.searchsorted(cumulative_BV, (uniform_B.double() * total_B)[:, None], right=True).squeeze(-1)
    return order_BV.gather(-1, torch.minimum(index_B, size_B - 1)[:, None]).squeeze(-1)


def _draw_by_id(probs_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """Inverse-CDF sampling with tokens ordered by id. The cumulative probability is searched among blocks of tokens, then within
    one block, so that no cumulative sum over the vocabulary is needed."""
    tokens = probs_BV.shape[-1]
    size = math.isqrt(tokens) + 1
    blocks_Bnn = F.pad(probs_BV, (0, size * size - tokens)).view(-1, size, size)
    cumulative_Bn = blocks_Bnn.sum(dim=-1, dtype=torch.float64).cumsum(dim=-1)
    target_B1 = (uniform_B * cumulative_Bn[:, -1])[:, None]
    block_B1 = _first_greater(cumulative_Bn, target_B1)
    before_B1 = F.pad(cumulative_Bn, (1, 0)).gather(-1, block_B1)
    within_Bn = blocks_Bnn.gather(1, block_B1[..., None].expand(-1, 1, size)).squeeze(1).double().cumsum(dim=-1)
    return (block_B1 * size + _first_greater(within_Bn, target_B1 - before_B1)).squeeze(-1)


def _first_greater(rising_Bn: Tensor, target_B1: Tensor) -> Tensor:
    """The index [B, 1] of the first number that is greater than the target. Sums in another order differ in their last bits and
    the last token may have no probability, so the target is kept below the largest number."""
    largest_B1 = rising_Bn[:, -1:]
    target_B1 = torch.minimum(target_B1, largest_B1.nextafter(torch.zeros_like(largest_B1)))
    return torch.searchsorted(rising_Bn, target_B1, right=True)
