"""How many bytes a run writes at most."""

from __future__ import annotations

from collections.abc import Iterable

from fires_exp.config.schema import Config
from fires_exp.data.dataset import Dataset
from fires_exp.data.video.frame_selection import allocate_frames
from fires_exp.pipeline.preflight.model_dims import Shape
from fires_exp.pipeline.preflight.token_lengths import PIXELS_A_TOKEN, Lengths

# measured on the sample and on MESC, rounded up
A_THOUGHT = 1_000
A_ROW = 1_500
A_TOKEN = 6
A_LOGGED_STEP = 1_500
A_FRAME_S_PIXEL = 0.4


def stage_bytes(stage: str, config: Config, shape: Shape | None, *, prompts: int, completion_tokens: int, steps: int) -> int:
    """Of a stage in its artifact, with the checkpoints that are kept and the one being written, and of its copies in the run."""
    if stage == "thoughts":
        return 2 * prompts * A_THOUGHT
    if stage == "predictions":
        return 2 * (prompts * A_ROW + 2 * completion_tokens * A_TOKEN)
    if shape is None or stage not in ("sft", "grpo"):
        return 0
    trained = shape.adapter_parameters(config.sft.lora if stage == "sft" else config.grpo.lora)
    samples = 0
    if stage == "grpo":
        completions = prompts * config.grpo.num_generations
        samples = 2 * (completions * A_ROW // 2 + completion_tokens * A_TOKEN) // config.grpo.log_completions_every_steps
    # a checkpoint holds each weight with AdamW's two moments, the adapter each weight
    return trained * 4 * (3 * (config.trainer.keep_checkpoints + 1) + 1) + samples + 2 * steps * A_LOGGED_STEP


def cache_bytes(config: Config, datasets: Iterable[Dataset], lengths: dict[str, Lengths]) -> int:
    """Of the frames that all instances show, as if none were there yet."""
    if config.frames.name == "none":
        return 0
    frames = sum(_frames(config, dataset) for dataset in datasets if dataset.video_root is not None)
    return round(frames * min(config.frames.max_pixels, _pixels(lengths)) * A_FRAME_S_PIXEL)


def _frames(config: Config, dataset: Dataset) -> int:
    """What is kept is kept by clip and by how many frames of it are shown."""
    kept = set()
    for example in (one for split in dataset.examples.values() for one in split):
        shown = [turn.clip is not None for turn in example.history]
        shares = allocate_frames(
            shown, max_frames=config.frames.max_frames, max_frames_per_turn=config.frames.max_frames_per_turn
        )
        kept |= {(turn.clip, share) for turn, share in zip(example.history, shares, strict=True) if turn.clip and share}
    return sum(share for _, share in kept)


def _pixels(lengths: dict[str, Lengths]) -> int:
    return max((one.frame_tokens * PIXELS_A_TOKEN for one in lengths.values()), default=0)
