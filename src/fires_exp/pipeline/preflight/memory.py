"""How much memory a stage takes at most, from the sizes of the backbone and of what is put through it. All numbers are bytes.

Counted, with e the bytes of an element of the weights (4 or 2), T rows (tokens of a micro-batch), H, I, A, K, V, L the widths of
states, of the gated layer, of queries and of keys, the vocabulary and the layers, r the adapter's rank, n trained parameters:

weights        e · parameters; a trained vision tower is a second copy, in float32
adapter        16 · n: float32 weights, gradients and AdamW's two moments
pictures       4 · values of the patches of a batch of prompts, which wait in the machine's memory until their turn
activations    what autograd keeps of a micro-batch, read off the layers as they are (a test counts it), L times; with gradient
               checkpointing L · e · H · T and one layer whole; and what one layer's backward pass holds besides
               SFT, the stock layer under PEFT, which casts what it reads to float32:
                   4 (7r + 7H + A + I) + e (3I + 2K + 2A) a row; in float32, where a cast is no copy, 4 (7r + 4H + 4I + 2K + 2A)
               GRPO, the native pass: e (7r + 4H + 3A + 2K + 3I) a row, and the prompt's keys and values once a completion
vision         the tower over the pictures of a micro-batch: what it keeps where it is trained, else one layer of it
logits         SFT: [tokens, V] in e and four times in float32. GRPO: a chunk (`chunked_logprobs.py`). Sampling: a row each
cache          keys and values of all prompts of a rollout, once, and of all their completions at full length, in float32 on a
               CPU; and half as much again while it is copied because rows have finished
decoding       on a CPU in float32, a second copy of the weights, laid out for decoding

The peak is what is always there and the larger of sampling and training, or of loading. Not counted: libraries and the data,
which the process already holds when this is asked, kernels' scratch space, the reward's scorer. What a CPU's heap leaves unused
between blocks can't be counted; it was measured (docs/estimates.md) and is told beside the peak, as `gaps`.
"""

from __future__ import annotations

from dataclasses import dataclass

from fires_exp.config.model import LoraConfig, SamplingConfig
from fires_exp.config.root import Config
from fires_exp.pipeline.preflight.model_dims import ModelDims
from fires_exp.pipeline.preflight.token_lengths import TokenLengths
from fires_exp.policy.native.chunked_logprobs import CPU_LOGITS, GPU_LOGITS

FLOAT = 4
GAPS = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryEstimate:
    """`peak` is that of the device, `host` what waits in the machine's memory beside a GPU (on a CPU it is part of the peak)."""

    weights: int
    adapter: int
    pictures: int
    activations: int
    vision: int
    logits: int
    cache: int
    decoding: int
    loading: int
    on_gpu: bool

    @property
    def peak(self) -> int:
        working = max(self.activations + self.vision + self.logits, self.cache + self.decoding)
        always = self.weights + self.adapter + (0 if self.on_gpu else self.pictures)
        return max(always + working, 0 if self.on_gpu else self.loading)

    @property
    def gaps(self) -> int:
        """What training on a CPU takes beyond what is counted, as a rule."""
        return 0 if self.on_gpu else round(GAPS * (self.activations + self.vision + self.logits))

    @property
    def host(self) -> int:
        return max(self.pictures, self.loading) if self.on_gpu else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Hardware:
    """What the estimates of a run share. `element` is e; `ranks` share a batch."""

    dims: ModelDims
    element: int
    on_gpu: bool
    ranks: int


def sft_memory(hardware: Hardware, config: Config, lengths: TokenLengths) -> MemoryEstimate:
    """A step of the cold start."""
    dims, e, sft = hardware.dims, hardware.element, config.sft
    prompt, seen = lengths.clipped(config.prompt.max_tokens)
    micro = min(sft.micro_batch_size, _shared(sft.batch_size, hardware))
    rows = micro * (prompt + lengths.longest_completion)
    tokens = micro * (lengths.longest_completion + 1)
    wide = FLOAT * (7 * sft.lora.rank + 4 * dims.hidden + 4 * dims.intermediate) + e * 2 * (dims.key_width + dims.query_width)
    if e != FLOAT:
        wide = FLOAT * (7 * sft.lora.rank + 7 * dims.hidden + dims.query_width + dims.intermediate) + e * (
            3 * dims.intermediate + 2 * dims.key_width + 2 * dims.query_width
        )
    trains_vision = sft.lora.train_vision
    return MemoryEstimate(
        **_always(hardware, sft.lora, pictures=seen * _shared(sft.batch_size, hardware)),
        activations=_kept(dims, rows * wide, rows * e * dims.hidden, recompute=sft.gradient_checkpointing)
        + _backward(hardware, rows),
        vision=_vision(hardware, micro * seen, trained=trains_vision),
        logits=tokens * dims.vocabulary * (e + 4 * FLOAT),
        cache=0,
        decoding=0,
        on_gpu=hardware.on_gpu,
    )


def grpo_memory(hardware: Hardware, config: Config, lengths: TokenLengths) -> MemoryEstimate:
    """A step of GRPO: sampling, then micro-batches."""
    dims, e, grpo = hardware.dims, hardware.element, config.grpo
    prompt, seen = lengths.clipped(config.prompt.max_tokens)
    prompts = _shared(grpo.batch_size, hardware)
    micro, completion = min(grpo.micro_batch_size, grpo.num_generations), config.sampling.max_new_tokens
    native = grpo.scoring == "native"
    rows = prompt + micro * completion if native else micro * (prompt + completion)
    wide = e * (7 * grpo.lora.rank + 4 * dims.hidden + 3 * dims.query_width + 2 * dims.key_width + 3 * dims.intermediate)
    layer = rows * wide + 2 * e * dims.key_width * micro * (prompt + completion)
    pieces = GPU_LOGITS if hardware.on_gpu else CPU_LOGITS
    logits = min(pieces, micro * completion * dims.vocabulary) * (e + 3 * FLOAT) + micro * completion * dims.hidden * e
    if not native:
        logits = micro * (completion + 1) * dims.vocabulary * (e + 4 * FLOAT)
    cache, decoding = _sampling(hardware, config.sampling, prompt, prompts, grpo.num_generations)
    return MemoryEstimate(
        **_always(hardware, grpo.lora, pictures=seen * prompts),
        activations=_kept(dims, layer, rows * e * dims.hidden, recompute=grpo.gradient_checkpointing) + _backward(hardware, rows),
        vision=_vision(hardware, seen, trained=False) if not native else 0,
        logits=logits,
        cache=cache,
        decoding=decoding + max(_vision(hardware, seen, trained=False), _forward(hardware, prompt)),
        on_gpu=hardware.on_gpu,
    )


def prediction_memory(hardware: Hardware, config: Config, lengths: TokenLengths) -> MemoryEstimate:
    """A batch of answers."""
    prompt, seen = lengths.clipped(config.prompt.max_tokens)
    batch = config.predict.batch_size
    cache, decoding = _sampling(hardware, config.predict.decoding, prompt, batch, 1)
    return MemoryEstimate(
        **_always(hardware, None, pictures=seen * batch),
        activations=0,
        vision=0,
        logits=0,
        cache=cache,
        decoding=decoding + max(_vision(hardware, seen, trained=False), _forward(hardware, prompt)),
        on_gpu=hardware.on_gpu,
    )


def _shared(batch: int, hardware: Hardware) -> int:
    return -(-batch // hardware.ranks)


def _always(hardware: Hardware, lora: LoraConfig | None, *, pictures: int) -> dict[str, int]:
    """`pictures` counts image tokens."""
    dims = hardware.dims
    weights = hardware.element * dims.parameters
    return {
        "weights": weights,
        "adapter": 16 * dims.adapter_parameters(lora) if lora else 0,
        "pictures": FLOAT * dims.patch_values * dims.patches_a_token * pictures,
        # files of another dtype are read as they are and then converted
        "loading": weights + (dims.stored_bytes * dims.parameters if dims.stored_bytes != hardware.element else 0),
    }


def _kept(dims: ModelDims, layer: int, states: int, *, recompute: bool) -> int:
    return dims.layers * states + layer if recompute else dims.layers * layer


def _backward(hardware: Hardware, rows: int) -> int:
    """Gradients inside one layer: of the gated layer's three and of states, some in float32."""
    return rows * (hardware.element * 3 * hardware.dims.intermediate + FLOAT * 3 * hardware.dims.hidden)


def _forward(hardware: Hardware, rows: int) -> int:
    """One layer without gradients."""
    return rows * (hardware.element * 3 * hardware.dims.intermediate + FLOAT * 3 * hardware.dims.hidden)


def _vision(hardware: Hardware, tokens: int, *, trained: bool) -> int:
    dims, patches = hardware.dims, tokens * hardware.dims.patches_a_token
    if trained:
        return dims.vision_layers * patches * FLOAT * (12 * dims.vision_hidden + 4 * dims.vision_intermediate)
    return patches * (hardware.element * (6 * dims.vision_hidden + 3 * dims.vision_intermediate) + FLOAT * dims.patch_values)


def _sampling(hardware: Hardware, sampling: SamplingConfig, prompt: int, prompts: int, generations: int) -> tuple[int, int]:
    """Cache, and what decoding holds beside it."""
    dims, rows = hardware.dims, prompts * generations
    native = sampling.engine == "native"
    element = FLOAT if native and not hardware.on_gpu else hardware.element
    tokens = prompts * prompt + rows * sampling.max_new_tokens if native else rows * (prompt + sampling.max_new_tokens)
    cache = 2 * dims.layers * dims.key_width * element * tokens
    laid_out = native and not hardware.on_gpu
    weights = hardware.element * (dims.linear_parameters + dims.vocabulary * dims.hidden) if laid_out else 0
    draw = FLOAT * 4 if sampling.temperature == 0 else FLOAT * 3 + 8 * (1 if sampling.top_p == 1.0 else 5)
    return cache * 3 // 2, weights + rows * dims.vocabulary * draw
