"""The model that answers, with what every pass needs to know about it."""

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

    `suppressed_V` [V] bool marks tokens that no completion may hold: every special token but the end of a turn, and rows of the
    vocabulary that no token uses. Sampling and scoring both give them probability zero, so they see the same distribution.
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
        """The `Qwen2_5_VLForConditionalGeneration` below the adapter, if there is one."""
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
        """mRoPE positions [3, B, T] (time, height, width); padding is not counted, text after images goes on from their extent.

        Computed here and passed on explicitly: left to itself, the model keeps state between calls and falls back to
        one-dimensional positions where it misses the token types.
        """
        positions: Tensor
        positions, _ = self.qwen.model.get_rope_index(
            inputs.input_ids,
            mm_token_type_ids=inputs.token_types,
            image_grid_thw=inputs.image_grid_thw if len(inputs.image_grid_thw) else None,
            attention_mask=inputs.attention_mask,
        )
        return positions

    def picture_states(self, prompt: EncodedPrompt) -> Tensor:
        """What the vision tower makes of a prompt's pictures [image tokens, K], in their order."""
        pixels, grid = prompt.pixel_values.to(self.device), prompt.image_grid_thw.to(self.device)
        seen: Tensor = torch.cat(self.qwen.model.get_image_features(pixels, grid).pooler_output)
        return seen

    def look(self, prompt: EncodedPrompt) -> EncodedPrompt:
        """The prompt with its pictures seen: a frozen tower need not look again in every pass."""
        if not len(prompt.pixel_values):
            return prompt
        with torch.no_grad():
            return replace(prompt, picture_states=self.picture_states(prompt))

    def token_states(self, ids_T: Tensor) -> Tensor:
        """Embeddings [T, K] of text tokens."""
        states: Tensor = self.qwen.get_input_embeddings()(ids_T)
        return states

    def prompt_states(self, prompt: EncodedPrompt) -> Tensor:
        """Embeddings [T, K] of a prompt, pictures in their places."""
        states_TK = self.token_states(prompt.prompt_ids.to(self.device))
        if not len(prompt.pixel_values):
            return states_TK
        seen = self.picture_states(prompt) if prompt.picture_states is None else prompt.picture_states
        places_T1 = (prompt.token_types == 1)[:, None].to(self.device)
        return states_TK.masked_scatter(places_T1, seen.to(states_TK.dtype))

    def forward(self, inputs: ModelInputs, **kwargs: Any) -> Any:
        """One pass over a padded batch; `kwargs` go to the model (`logits_to_keep`, `past_key_values`, …)."""
        pictures = len(inputs.pixel_values) > 0
        return self.model(
            input_ids=inputs.input_ids,
            attention_mask=inputs.attention_mask.long(),
            position_ids=self.positions(inputs),
            pixel_values=inputs.pixel_values if pictures else None,
            image_grid_thw=inputs.image_grid_thw if pictures else None,
            **kwargs,
        )

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Dropout and gradient checkpointing off inside (checkpointing would switch the cache off), the mode restored after."""
        was_training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(was_training)

    @contextmanager
    def as_reference(self) -> Iterator[None]:
        """Inside, the model is the reference policy: the adapter is off, nothing is trained."""
        with self.evaluating(), self.model.disable_adapter(), torch.no_grad():
            yield
