"""Sampling completions: the prompt is read once, its cache serves all G completions, finished rows leave the batch.

Each completion draws from a random stream of its own, so what is sampled for a prompt does not depend on which other prompts
stand in the batch, on which device they are, or on what was sampled before: (seed, prompt, g) is all there is.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from fires_exp.config.model import SamplingConfig
from fires_exp.policy.completion import Completion, completion_of
from fires_exp.policy.hf_decoding import StockDecoding
from fires_exp.policy.logprobs import token_logprobs
from fires_exp.policy.native.decoding import NativeDecoding
from fires_exp.policy.policy import Policy
from fires_exp.policy.vllm_decoding import VllmEngine
from fires_exp.prompts.processor import EncodedPrompt

# one a policy, as long as the policy lives
_vllm_engines: WeakKeyDictionary[Policy, VllmEngine] = WeakKeyDictionary()

# a batch is shrunk when this share of its rows has finished; shrinking copies the cache, so not at every single one
SHRINK_SHARE = 0.25


def stream_seed(*parts: object) -> int:
    """A seed that depends on all parts and on nothing else, the same on every machine and in every process."""
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()[:8], "big") >> 1


def sample_completions(
    policy: Policy, prompts: Sequence[EncodedPrompt], config: SamplingConfig, seeds: Sequence[Sequence[int]]
) -> list[list[Completion]]:
    """`len(seeds[p])` completions of each prompt p; every prompt wants the same number. Temperature 0 is greedy."""
    return watched_completions(policy, prompts, config, seeds, lambda ids_B: None)


def watched_completions(
    policy: Policy,
    prompts: Sequence[EncodedPrompt],
    config: SamplingConfig,
    seeds: Sequence[Sequence[int]],
    see: Callable[[Tensor], None],
) -> list[list[Completion]]:
    """`sample_completions`, where `see` is told the tokens [rows left] of each step as they are drawn, but by vLLM."""
    if config.engine == "vllm":
        if policy not in _vllm_engines:
            _vllm_engines[policy] = VllmEngine(policy)
        return _vllm_engines[policy].sample(policy, prompts, config, seeds)
    generations = len(seeds[0])
    engine: type[NativeDecoding | StockDecoding] = NativeDecoding if config.engine == "native" else StockDecoding
    with torch.inference_mode(), policy.evaluating():
        decoding = engine(policy, prompts, generations, config.max_new_tokens)
        rows = _Rows(policy, config, [seed for group in seeds for seed in group])
        logits_BV = decoding.first_logits()
        for step in range(config.max_new_tokens):
            ids_B = rows.draw(logits_BV, step)
            see(ids_B)
            if not rows.alive_B.any() or step + 1 == config.max_new_tokens:
                break
            if (kept := rows.shrink()) is not None:
                ids_B = ids_B[kept]
                decoding.keep(kept)
            logits_BV = decoding.next_logits(ids_B)
    completions = rows.completions()
    return [completions[start : start + generations] for start in range(0, len(completions), generations)]


class _Rows:
    """The rows of a batch that is being decoded: which are still alive, and what each has drawn."""

    def __init__(self, policy: Policy, config: SamplingConfig, seeds: Sequence[int]) -> None:
        self.policy = policy
        self.config = config
        self.row_B = torch.arange(len(seeds), device=policy.device)
        self.alive_B = torch.ones(len(seeds), dtype=torch.bool, device=policy.device)
        self.ids_BC = torch.full((len(seeds), config.max_new_tokens), policy.pad_id, device=policy.device)
        self.logprobs_BC = torch.zeros(len(seeds), config.max_new_tokens, device=policy.device)
        self.length_B = torch.zeros(len(seeds), dtype=torch.long, device=policy.device)
        uniforms = [torch.rand(config.max_new_tokens, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        self.uniform_BC = torch.stack(uniforms).to(policy.device)

    def draw(self, logits_BV: Tensor, step: int) -> Tensor:
        """Draw one token for each row that is left in the batch; a finished row draws padding."""
        greedy = self.config.temperature == 0
        logprobs_BV = token_logprobs(self.policy, logits_BV, 1.0 if greedy else self.config.temperature)
        if greedy:
            ids_B = logprobs_BV.argmax(dim=-1)
        else:
            ids_B = draw_top_p(logprobs_BV, self.config.top_p, self.uniform_BC[self.row_B, step])
        chosen_B = logprobs_BV.gather(-1, ids_B[:, None]).squeeze(-1)
        rows = self.row_B[self.alive_B]
        self.ids_BC[rows, step] = ids_B[self.alive_B]
        self.logprobs_BC[rows, step] = chosen_B[self.alive_B]
        self.length_B[rows] = step + 1
        self.alive_B = self.alive_B & (ids_B != self.policy.eos_id)
        return ids_B.masked_fill(~self.alive_B, self.policy.pad_id)

    def shrink(self) -> Tensor | None:
        """Places in the batch of the rows to go on with, once enough have finished; None keeps the batch."""
        if (~self.alive_B).float().mean() < SHRINK_SHARE:
            return None
        kept = self.alive_B.nonzero().squeeze(-1)
        self.row_B, self.alive_B = self.row_B[kept], self.alive_B[kept]
        return kept

    def completions(self) -> list[Completion]:
        rows = zip(self.ids_BC.cpu(), self.logprobs_BC.cpu(), self.length_B.tolist(), strict=True)
        return [completion_of(self.policy, ids[:length].clone(), logprobs[:length].clone()) for ids, logprobs, length in rows]


def draw_top_p(logprobs_BV: Tensor, top_p: float, uniform_B: Tensor) -> Tensor:
    """Inverse-CDF draw from the smallest set of most probable tokens whose probability reaches `top_p`, renormalized.

    `uniform_B` in [0, 1) decides the draw: row b takes the first token whose cumulated probability exceeds uniform_b times the
    set's total, tokens ordered by falling probability (by id where `top_p` is 1).
    """
    if top_p == 1.0:
        return _draw(logprobs_BV.exp(), uniform_B.double())  # everything is in the set: no need to sort a vocabulary
    probs_BV, order_BV = logprobs_BV.double().exp().sort(dim=-1, descending=True, stable=True)
    cumulated_BV = probs_BV.cumsum(dim=-1)
    # a token is in the set if those before it have not reached top_p yet; the first always is
    size_B = ((cumulated_BV - probs_BV) < top_p).sum(dim=-1)
    total_B = cumulated_BV.gather(-1, (size_B - 1)[:, None]).squeeze(-1)
    place_B = torch.searchsorted(cumulated_BV, (uniform_B.double() * total_B)[:, None], right=True).squeeze(-1)
    return order_BV.gather(-1, torch.minimum(place_B, size_B - 1)[:, None]).squeeze(-1)


def _draw(probs_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """The inverse-CDF draw over tokens in the order of their ids. The cumulated probability is looked up among blocks of tokens,
    then inside one: nobody needs a sum up to each of a whole vocabulary."""
    tokens = probs_BV.shape[-1]
    width = math.isqrt(tokens) + 1
    probs_BNW = F.pad(probs_BV, (0, width * width - tokens)).view(-1, width, width)
    upto_BN = probs_BNW.sum(dim=-1, dtype=torch.float64).cumsum(dim=-1)
    sought_B1 = (uniform_B * upto_BN[:, -1])[:, None]
    block_B1 = _first_beyond(upto_BN, sought_B1)
    before_B1 = F.pad(upto_BN, (1, 0)).gather(-1, block_B1)
    inside_BW = probs_BNW.gather(1, block_B1[..., None].expand(-1, 1, width)).squeeze(1).double().cumsum(dim=-1)
    return (block_B1 * width + _first_beyond(inside_BW, sought_B1 - before_B1)).squeeze(-1)


def _first_beyond(rising_BN: Tensor, sought_B1: Tensor) -> Tensor:
    """The first place [B, 1] whose number is greater. Sums in another order differ in their last bits, and the last place of all
    may be one that has no probability: what is sought stays below the largest number."""
    largest_B1 = rising_BN[:, -1:]
    return torch.searchsorted(rising_BN, torch.minimum(sought_B1, largest_B1.nextafter(torch.zeros_like(largest_B1))), right=True)
