"""Conversations to token ids and image patches.

Key frames are images, so no video processor is needed. `Qwen2_5_VLProcessor` requires one, and torchvision with it;
`ImageChatProcessor` is that class without either.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.processing_utils import ProcessorMixin

from fires_exp.data.records import Role, SupportExample, Utterance
from fires_exp.errors import DataError
from fires_exp.prompts.templates import SPEAKER_NAMES, chat_messages
from fires_exp.prompts.truncation import fit_history
from fires_exp.services.messages import ChatMessage
from fires_exp.thinking.aspects import ThinkingPlan


class ImageChatProcessor(Qwen2_5_VLProcessor):  # type: ignore[misc]
    """Qwen2.5-VL's processor for text and images."""

    def __init__(self, image_processor: Qwen2VLImageProcessorPil, tokenizer: object, chat_template: str | None = None) -> None:
        self.image_token = "<|image_pad|>"
        self.video_token = "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)  # type: ignore[attr-defined]
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)  # type: ignore[attr-defined]
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)


def load_processor(path: str | Path, revision: str | None = None) -> ImageChatProcessor:
    """The processor of a backbone folder or hub id."""
    tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
    image_processor = Qwen2VLImageProcessorPil.from_pretrained(path, revision=revision)
    return ImageChatProcessor(image_processor, tokenizer, chat_template=tokenizer.chat_template)


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedPrompt:
    """One instance as model input, unpadded.

    prompt_ids [T] int64 · token_types [T] int64, 1 over image tokens · pixel_values [patches, 1176] float32 and
    image_grid_thw [F, 3] int64, empty without frames · dropped_turns: oldest turns that did not fit · image_embeds: what a
    frozen vision tower made of the pictures, where it has looked already (`Policy.encode_images`).
    """

    example: SupportExample
    prompt_ids: Tensor
    token_types: Tensor
    pixel_values: Tensor
    image_grid_thw: Tensor
    dropped_turns: int
    image_embeds: Tensor | None = None


class PromptEncoder:
    """Encodes instances for one backbone and plan; `max_tokens` limits the whole prompt, including image tokens."""

    def __init__(self, processor: ImageChatProcessor, plan: ThinkingPlan, max_tokens: int) -> None:
        self.processor = processor
        self.plan = plan
        self.max_tokens = max_tokens

    def encode(self, example: SupportExample, frames: Sequence[Sequence[Image.Image]]) -> EncodedPrompt:
        """Encode an instance; `frames` has one list per history turn.

        Where the prompt is longer than `max_tokens`, the oldest whole turns are dropped, each with its frames, until it fits: the
        tokens of an image are never cut. Raises `DataError` if the last turn alone does not fit.
        """
        image_tokens = [[self._image_tokens(frame) for frame in turn] for turn in frames]

        def render(dropped: int) -> tuple[str, int]:
            text = self._text(example.history[dropped:], [len(turn) for turn in image_tokens[dropped:]])
            # the text holds one placeholder token per image, which expands to as many tokens as the image has merged patches
            extra = sum(tokens - 1 for turn in image_tokens[dropped:] for tokens in turn)
            return text, len(self.processor.tokenizer(text).input_ids) + extra

        dropped, text = fit_history(
            render,
            example,
            limit=self.max_tokens,
            limit_key="prompt.max_tokens",
            lower_keys=("frames.max_frames", "frames.max_pixels"),
        )
        return _encoded(self.processor, example, text, [frame for turn in frames[dropped:] for frame in turn], dropped)

    def check_fits(self, examples: Iterable[SupportExample]) -> None:
        """Raises `DataError` if the last turn of an instance is too long even without frames: before a run, not in its middle."""
        text_limits = {role: self.max_tokens - self._max_template_tokens(role) for role in SPEAKER_NAMES}
        # a token has at least one byte, so only texts with more bytes than the limit have to be tokenized
        candidates = (
            example for example in examples if _byte_count(example.history[-1].text) > text_limits[example.history[-1].speaker]
        )
        lengths = [(self._shortest_length(example), example) for example in candidates]
        too_long = [(length, example) for length, example in lengths if length > self.max_tokens]
        if too_long:
            length, longest = max(too_long, key=lambda item: item[0])
            raise DataError(
                f"{longest.source or longest.id}: with the last turn of {longest.id} alone, the prompt has {length} tokens "
                f"({len(too_long)} instances exceed prompt.max_tokens={self.max_tokens}); raise it"
            )

    def _max_template_tokens(self, speaker: Role) -> int:
        """An upper bound on the tokens of a one-turn prompt of this speaker, apart from the turn's own text."""
        turn = Utterance(speaker=speaker, text="")
        empty = self._text([turn], [0])
        # special tokens separate the user's message from the rest; within it, the speaker's name may be tokenized differently
        # next to the text
        return len(self.processor.tokenizer(empty).input_ids) + _byte_count(f"user\n{SPEAKER_NAMES[speaker]}: ")

    def _shortest_length(self, example: SupportExample) -> int:
        return len(self.processor.tokenizer(self._text(example.history[-1:], [0])).input_ids)

    def completion_ids(self, text: str) -> Tensor:
        """A completion as ids [T], closed by the end-of-turn token."""
        tokenizer = self.processor.tokenizer
        return torch.tensor([*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id])

    def _image_tokens(self, frame: Image.Image) -> int:
        image_processor = self.processor.image_processor
        patches: int = image_processor.get_number_of_image_patches(frame.height, frame.width, {})
        return patches // int(image_processor.merge_size) ** 2

    def _text(self, history: Sequence[Utterance], frame_counts: Sequence[int]) -> str:
        messages = chat_messages(history, frame_counts, self.plan)
        text: str = self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return text


def encode_chat(processor: ImageChatProcessor, example: SupportExample, messages: Sequence[ChatMessage]) -> EncodedPrompt:
    """Any chat as model input; `example` is the instance that it belongs to."""
    chat = [
        {
            "role": message.role,
            "content": [{"type": "text", "text": part} if isinstance(part, str) else {"type": "image"} for part in message.parts],
        }
        for message in messages
    ]
    text = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    images = [part for message in messages for part in message.parts if not isinstance(part, str)]
    return _encoded(processor, example, text, images, 0)


def _encoded(
    processor: ImageChatProcessor, example: SupportExample, text: str, frames: list[Image.Image], dropped: int
) -> EncodedPrompt:
    inputs = processor(text=[text], images=frames or None, return_tensors="pt", return_mm_token_type_ids=True)
    return EncodedPrompt(
        example=example,
        prompt_ids=inputs["input_ids"][0],
        token_types=inputs["mm_token_type_ids"][0].long(),
        pixel_values=inputs["pixel_values"].float() if frames else torch.zeros(0, 1176),
        image_grid_thw=inputs["image_grid_thw"] if frames else torch.zeros(0, 3, dtype=torch.long),
        dropped_turns=dropped,
    )


def _byte_count(text: str) -> int:
    """The bytes of a text or of its Unicode normal form, whichever has more: a tokenizer may normalize first."""
    return len(text) if text.isascii() else max(len(form.encode()) for form in (text, unicodedata.normalize("NFKD", text)))
