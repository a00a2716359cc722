"""The floor of a GRPO step: the necessary operations and bytes, and the measured rates of the machine.

Necessary for each prompt: the vision tower once; the language model over the prompt once in sampling, once for the reference,
once forward and once backward for the policy; the same over its G completions, where sampling reads all weights once per decode
step for all prompts together. Counted are matrix products (2 operations per multiply-add), causal attention with half of its
square, LoRA's own products in the policy pass only (it can be folded in for sampling and is off in the reference). The base is
frozen, so backward takes only the gradient of each product's input, and none for the vision tower. Element-wise work, the
optimizer and the preprocessing of images are not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Grid = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class StepWork:
    """Operations of each pass of a step, and the bytes that decoding has to read."""

    vision_flops: float
    prefill_flops: float
    decode_flops: float
    decode_bytes: float
    reference_flops: float
    policy_forward_flops: float
    policy_backward_flops: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Measured rates of the device: matrix products in the step's dtype, and memory reads."""

    flops_per_second: float
    bytes_per_second: float


def floor_seconds(work: StepWork, rates: Rates) -> dict[str, float]:
    """Least seconds of the parts of `StepClock` and of the whole step; decoding is bound by bytes or by operations."""
    decode = max(work.decode_bytes / rates.bytes_per_second, work.decode_flops / rates.flops_per_second)
    parts = {
        "sampling": (work.vision_flops + work.prefill_flops) / rates.flops_per_second + decode,
        "scoring": (work.reference_flops + work.policy_forward_flops) / rates.flops_per_second,
        "backward": work.policy_backward_flops / rates.flops_per_second,
    }
    return parts | {"whole": sum(parts.values())}


def step_work(
    config: Any,
    *,
    prompt_tokens: Sequence[int],
    image_grids: Sequence[Grid],
    generations: int,
    new_tokens: int,
    lora_rank: int,
    element_bytes: int,
) -> StepWork:
    """The work of a step of a `Qwen2_5_VLConfig`; `image_grids` are all images of all prompts, in patches (t, h, w)."""
    text = config.text_config
    head_size = text.hidden_size // text.num_attention_heads
    keys = text.num_key_value_heads * head_size
    # (inputs, outputs) of a layer's products: q, k, v, o, gate, up, down
    products = [
        (text.hidden_size, text.hidden_size), (text.hidden_size, keys), (text.hidden_size, keys),
        (text.hidden_size, text.hidden_size), (text.hidden_size, text.intermediate_size),
        (text.hidden_size, text.intermediate_size), (text.intermediate_size, text.hidden_size),
    ]  # fmt: skip
    layer_weights = text.num_hidden_layers * sum(inputs * outputs for inputs, outputs in products)
    adapter_weights = text.num_hidden_layers * lora_rank * sum(inputs + outputs for inputs, outputs in products)
    head_weights = text.hidden_size * text.vocab_size
    # a query and a key meet in two products of `hidden_size`: scores, and the weighted sum of values
    pair_flops = 4.0 * text.hidden_size * text.num_hidden_layers

    # the last token of a completion is predicted, never read
    read = new_tokens - 1
    prompt_layers = 2.0 * layer_weights * sum(prompt_tokens)
    prompt_pairs = pair_flops * sum(length * (length + 1) / 2 for length in prompt_tokens)
    prompt_head = 2.0 * head_weights * len(prompt_tokens)
    completion_layers = 2.0 * layer_weights * len(prompt_tokens) * generations * read
    completion_pairs = pair_flops * generations * sum(read * length + read * (read + 1) / 2 for length in prompt_tokens)
    completion_head = 2.0 * head_weights * len(prompt_tokens) * generations * read

    layers, pairs, head = prompt_layers + completion_layers, prompt_pairs + completion_pairs, prompt_head + completion_head
    adapter = 2.0 * adapter_weights * (sum(prompt_tokens) + len(prompt_tokens) * generations * read)
    cached_tokens = sum(read * length + generations * read * (read + 1) / 2 for length in prompt_tokens)
    cache_bytes = 2 * keys * text.num_hidden_layers * element_bytes * cached_tokens
    return StepWork(
        vision_flops=sum(vision_flops(config.vision_config, grid) for grid in image_grids),
        prefill_flops=prompt_layers + prompt_pairs + prompt_head,
        decode_flops=completion_layers + completion_pairs + completion_head,
        decode_bytes=element_bytes * (layer_weights + head_weights) * read + cache_bytes,
        reference_flops=layers + pairs + head,
        policy_forward_flops=layers + pairs + head + adapter,
        policy_backward_flops=layers + 2 * pairs + head + 2 * adapter,
    )


def vision_flops(config: Any, grid: Grid) -> float:
    """One image through the tower, `grid` in patches: every block is windowed but those with full attention."""
    frames, height, width = grid
    patches = frames * height * width
    side = config.window_size // config.patch_size
    window_pairs = frames * sum(rows**2 for rows in _cuts(height, side)) * sum(columns**2 for columns in _cuts(width, side))
    full_pairs = frames * (height * width) ** 2
    full_blocks = len(config.fullatt_block_indexes)
    pixels = config.in_channels * config.temporal_patch_size * config.patch_size**2
    block_weights = 4 * config.hidden_size**2 + 3 * config.hidden_size * config.intermediate_size
    merged = config.hidden_size * config.spatial_merge_size**2
    flops: float = (
        2.0 * patches * (pixels * config.hidden_size + config.depth * block_weights)
        + 4.0 * config.hidden_size * (full_blocks * full_pairs + (config.depth - full_blocks) * window_pairs)
        + 2.0 * patches / config.spatial_merge_size**2 * merged * (merged + config.out_hidden_size)
    )
    return flops


def _cuts(length: int, side: int) -> list[int]:
    return [min(side, length - start) for start in range(0, length, side)]


def measured_rates(device: str, dtype: torch.dtype) -> Rates:
    """The best of several large matrix products, and of several sums over and copies of a gigabyte."""
    size = 8192 if device == "cuda" else 2048
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    numbers = torch.ones(2**30 // dtype.itemsize, device=device, dtype=dtype)
    copy = torch.empty_like(numbers)
    size_bytes = numbers.numel() * dtype.itemsize
    return Rates(
        flops_per_second=2 * size**3 / _best_seconds(device, lambda: left @ right),
        bytes_per_second=max(
            size_bytes / _best_seconds(device, numbers.sum), 2 * size_bytes / _best_seconds(device, lambda: copy.copy_(numbers))
        ),
    )


def _best_seconds(device: str, work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return best
