"""The policy: the model with what every pass needs to know about it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from fires_exp.prompts.collate import ModelInputs
from fires_exp.prompts.processor import EncodedPrompt, ImageChatProcessor


class Policy(nn.Module):
    """A Qwen2.5-VL, bare or with one PEFT adapter, and its processor.

    `suppressed_V` [V] bool is True for tokens that no completion may contain: every special token except the end of a turn, and
    vocabulary rows without a token. Sampling and scoring both give them probability zero, so their distributions are the same.
    """

    suppressed_V: Tensor

    def __init__(self, model: nn.Module, processor: ImageChatProcessor, name: str) -> None:
        super().__init__()
        self.model: Any = model
        self.processor = processor
        self.name = name
        tokenizer = processor.tokenizer
        vocabulary = self.qwen.config.text_config.vocab_size
        special = set(tokenizer.all_special_ids) | {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
        special |= {processor.image_token_id, processor.video_token_id} | set(range(len(tokenizer), vocabulary))
        suppressed_V = torch.zeros(vocabulary, dtype=torch.bool)
        suppressed_V[sorted(special - {tokenizer.eos_token_id})] = True
        self.register_buffer("suppressed_V", suppressed_V, persistent=False)

    @property
    def qwen(self) -> Any:
        """The `Qwen2_5_VLForConditionalGeneration`, without the PEFT wrapper."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model

    @property
    def eos_id(self) -> int:
        return int(self.processor.tokenizer.eos_token_id)

    @property
    def pad_id(self) -> int:
        return int(self.processor.tokenizer.pad_token_id)

    @property
    def device(self) -> torch.device:
        return self.suppressed_V.device

    def positions(self, inputs: ModelInputs) -> Tensor:
        """mRoPE positions [3, B, T] (time, height, width). Padding is not counted; text after images continues from their extent.

        Computed here and passed explicitly: the model itself keeps state between calls, and falls back to one-dimensional
        positions without token types.
        """
        positions: Tensor
        positions, _ = self.qwen.model.get_rope_index(
            inputs.input_ids,
            mm_token_type_ids=inputs.token_types,
            image_grid_thw=inputs.image_grid_thw if len(inputs.image_grid_thw) else None,
            attention_mask=inputs.attention_mask,
        )
        return positions

    def image_embeds(self, prompt: EncodedPrompt) -> Tensor:
        """Output of the vision tower for a prompt's frames [image tokens, D], in their order."""
        pixels, grid = prompt.pixel_values.to(self.device), prompt.image_grid_thw.to(self.device)
        embeds_TD: Tensor = torch.cat(self.qwen.model.get_image_features(pixels, grid).pooler_output)
        return embeds_TD

    def encode_images(self, prompt: EncodedPrompt) -> EncodedPrompt:
        """The prompt with its `image_embeds` computed, so that later passes skip the vision tower. For a frozen tower only."""
        if not len(prompt.pixel_values):
            return prompt
        with torch.no_grad():
            return replace(prompt, image_embeds=self.image_embeds(prompt))

    def token_embeds(self, ids_T: Tensor) -> Tensor:
        """Embeddings [T, D] of text tokens."""
        embeds_TD: Tensor = self.qwen.get_input_embeddings()(ids_T)
        return embeds_TD

    def prompt_embeds(self, prompt: EncodedPrompt) -> Tensor:
        """Embeddings [T, D] of a prompt, with those of its frames at the image tokens."""
        embeds_TD = self.token_embeds(prompt.prompt_ids.to(self.device))
        if not len(prompt.pixel_values):
            return embeds_TD
        image_embeds = self.image_embeds(prompt) if prompt.image_embeds is None else prompt.image_embeds
        image_mask_T1 = (prompt.token_types == 1)[:, None].to(self.device)
        return embeds_TD.masked_scatter(image_mask_T1, image_embeds.to(embeds_TD.dtype))

    def forward(self, inputs: ModelInputs, **kwargs: Any) -> Any:
        """One pass over a padded batch; `kwargs` go to the model (`logits_to_keep`, `past_key_values`, …)."""
        has_images = len(inputs.pixel_values) > 0
        return self.model(
            input_ids=inputs.input_ids,
            attention_mask=inputs.attention_mask.long(),
            position_ids=self.positions(inputs),
            pixel_values=inputs.pixel_values if has_images else None,
            image_grid_thw=inputs.image_grid_thw if has_images else None,
            **kwargs,
        )

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluation mode inside the block: no dropout, and no gradient checkpointing, which would disable the cache."""
        was_training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(was_training)

    @contextmanager
    def as_reference(self) -> Iterator[None]:
        """Inside the block the model is the reference policy: adapter off, evaluation mode, no gradients."""
        with self.evaluating(), self.model.disable_adapter(), torch.no_grad():
            yield
