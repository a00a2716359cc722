"""Building small Qwen2.5-VL models from sizes: shared by the embedded and the tiny backbone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

VISION_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
INITIAL_SEED = 0

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

_TOKEN_NAMES = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}


def new_qwen_vl(tokenizer: Any, text: dict[str, Any], vision: dict[str, Any], *, tied: bool) -> Any:
    """A Qwen2.5-VL with seeded random weights: an image token covers 28 x 28 pixels, an attention window 112 x 112.

    `text` and `vision` are the sizes of the language model and of the vision tower; `tied` shares input and output embeddings.
    """
    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>") for name, token in _TOKEN_NAMES.items()}
    shared = {"tie_word_embeddings": tied, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    config = Qwen2_5_VLConfig(
        text_config={**text, **shared, "pad_token_id": tokenizer.pad_token_id},
        vision_config={
            **vision,
            "out_hidden_size": text["hidden_size"],
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
        },
        **ids,
        **shared,
    )
    with torch.random.fork_rng():
        torch.manual_seed(INITIAL_SEED)
        return Qwen2_5_VLForConditionalGeneration(config).eval()


def save_qwen_vl(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write weights, tokenizer and image processor as transformers reads them."""
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil(size={"shortest_edge": 28 * 28, "longest_edge": 1280 * 28 * 28}).save_pretrained(folder)
