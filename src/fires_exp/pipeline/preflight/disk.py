"""Upper bounds for the bytes that a run writes: into artifacts, with their copies in the run folder, and into the cache."""

from __future__ import annotations

from collections.abc import Iterable

from fires_exp.config.data import FramesConfig
from fires_exp.data.dataset import Dataset
from fires_exp.data.video.frame_selection import allocate_frames

# bytes, measured on the sample and on MESC, rounded up
THOUGHT_BYTES = 1_000
ROW_BYTES = 1_500
TOKEN_BYTES = 6
LOGGED_STEP_BYTES = 1_500
PIXEL_BYTES = 0.4  # of a cached frame
# an artifact and its copy in the run folder
COPIES = 2
# float32 values of each trained parameter in a checkpoint: the weight and AdamW's two moments
CHECKPOINT_BYTES = 4 * 3
WEIGHT_BYTES = 4


def thoughts_bytes(instances: int) -> int:
    return COPIES * instances * THOUGHT_BYTES


def predictions_bytes(instances: int, completion_tokens: int) -> int:
    return COPIES * (instances * ROW_BYTES + 2 * completion_tokens * TOKEN_BYTES)


def training_bytes(trained_parameters: int, *, checkpoints: int, steps: int) -> int:
    """`checkpoints` are kept at a time, and one more is being written."""
    return trained_parameters * (CHECKPOINT_BYTES * (checkpoints + 1) + WEIGHT_BYTES) + COPIES * steps * LOGGED_STEP_BYTES


def samples_bytes(completions: int, completion_tokens: int, *, every_steps: int) -> int:
    """Of GRPO's samples, of which every `every_steps`-th step's are kept."""
    return COPIES * (completions * ROW_BYTES // 2 + completion_tokens * TOKEN_BYTES) // every_steps


def frame_cache_bytes(frames: FramesConfig, datasets: Iterable[Dataset], frame_pixels: int) -> int:
    """Of the decoded frames of all instances, as if none were cached. `frame_pixels` is the size of the largest frame."""
    if frames.name == "none":
        return 0
    count = sum(_cached_frames(frames, dataset) for dataset in datasets if dataset.video_root is not None)
    return round(count * min(frames.max_pixels, frame_pixels) * PIXEL_BYTES)


def _cached_frames(frames: FramesConfig, dataset: Dataset) -> int:
    """A clip is cached once for each number of frames that are shown of it."""
    cached = set()
    for example in (example for split in dataset.examples.values() for example in split):
        has_clip = [turn.clip is not None for turn in example.history]
        counts = allocate_frames(has_clip, max_frames=frames.max_frames, max_frames_per_turn=frames.max_frames_per_turn)
        cached |= {(turn.clip, count) for turn, count in zip(example.history, counts, strict=True) if turn.clip and count}
    return sum(count for _, count in cached)
