"""How long the prompts and completions of a split are, without encoding all of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fires_exp.config.data import FramesConfig
from fires_exp.data.records import SupportExample
from fires_exp.data.video.frame_selection import allocate_frames
from fires_exp.data.video.frames import FrameReader
from fires_exp.prompts.processor import PromptEncoder

DRAWN = 64
LONGEST = 8
VIDEOS_OPENED = 2
PIXELS_A_TOKEN = 28 * 28


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenLengths:
    """Tokens. Prompts are counted with their frames and cut at `prompt.max_tokens`; `pictures` is the most that a prompt has of
    image tokens, `frame_tokens` those of one frame; a completion has its closing token."""

    mean_prompt: float
    longest_prompt: int
    pictures: int
    frame_tokens: int
    mean_completion: float
    longest_completion: int

    def clipped(self, max_tokens: int) -> tuple[int, int]:
        """The longest prompt, and its image tokens, once the oldest turns are dropped."""
        return min(self.longest_prompt, max_tokens), min(self.pictures, max_tokens)


def measure_lengths(
    encoder: PromptEncoder,
    examples: Sequence[SupportExample],
    frames: FrameReader | None,
    config: FramesConfig,
    completion: Callable[[SupportExample], int],
) -> TokenLengths:
    """Texts of a seeded draw and of the longest instances are encoded; frames are counted, and their tokens taken from a few."""
    drawn = random.Random(0).sample(examples, min(DRAWN, len(examples)))  # noqa: S311
    longest = sorted(examples, key=_characters)[-LONGEST:]
    each = _tokens_a_frame(encoder, examples, frames, config) if frames else 0

    def prompt(example: SupportExample) -> tuple[int, int]:
        text = len(encoder.encode(example, [[] for _ in example.history]).prompt_ids)
        shown = _frames(example, config) if frames else 0
        return min(encoder.max_tokens, text + shown * (each + 2 if each else 0)), shown * each

    prompts = {example.id: prompt(example) for example in (*drawn, *longest)}
    completions = {example.id: completion(example) for example in (*drawn, *longest)}
    wordiest = max(examples, key=lambda example: len(example.reference_response))
    return TokenLengths(
        mean_prompt=sum(prompts[example.id][0] for example in drawn) / len(drawn),
        longest_prompt=max(tokens for tokens, _ in prompts.values()),
        pictures=min(encoder.max_tokens, max(pictures for _, pictures in prompts.values())),
        frame_tokens=each,
        mean_completion=sum(completions[example.id] for example in drawn) / len(drawn),
        longest_completion=max(*completions.values(), completion(wordiest)),
    )


def _characters(example: SupportExample) -> int:
    return sum(len(turn.text) for turn in example.history)


def _frames(example: SupportExample, config: FramesConfig) -> int:
    shown = [turn.clip is not None for turn in example.history]
    return sum(allocate_frames(shown, max_frames=config.max_frames, max_frames_per_turn=config.max_frames_per_turn))


def _tokens_a_frame(encoder: PromptEncoder, examples: Sequence[SupportExample], frames: FrameReader, config: FramesConfig) -> int:
    """Of the largest frame of the first videos; of a frame of `max_pixels` where none can be read."""
    found: list[int] = []
    videos: set[str] = set()
    for example in examples:
        new = {turn.clip.video for turn in example.history if turn.clip is not None} - videos
        if new and len(videos) < VIDEOS_OPENED:
            videos |= new
            shown = encoder.encode(example, frames.frames_of(example))
            found += (shown.image_grid_thw.prod(dim=1) // encoder.processor.image_processor.merge_size**2).tolist()
    return max(found, default=-(-config.max_pixels // PIXELS_A_TOKEN))
