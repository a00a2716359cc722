"""The cold start: next-token loss on synthesised thoughts and reference responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fires_exp.config.schema import SftConfig
from fires_exp.modules.training import AdapterModule, chunks
from fires_exp.policy.logprobs import completion_logprobs
from fires_exp.policy.policy import Policy
from fires_exp.prompts.collate import collate
from fires_exp.prompts.processor import EncodedPrompt


@dataclass(frozen=True, kw_only=True, slots=True)
class SftItem:
    """A prompt and the completion [T] to learn, closed by the end-of-turn token."""

    prompt: EncodedPrompt
    completion_ids: Tensor


class SftModule(AdapterModule):
    """Maximises log pi(completion | prompt); only completion tokens count, each the same within a batch."""

    def __init__(self, policy: Policy, config: SftConfig, *, total_updates: int, seed: int) -> None:
        super().__init__(policy, config.lora, config.optimizer, total_updates=total_updates, seed=seed)
        self.config = config

    def training_step(self, batch: list[SftItem], batch_idx: int) -> None:
        names = [item.prompt.example.id for item in batch]
        tokens = sum(len(item.completion_ids) for item in batch)
        total = torch.zeros((), device=self.device)
        # similar lengths share a micro-batch, so that little is padded; the sum does not depend on the order
        by_length = sorted(batch, key=lambda item: len(item.prompt.prompt_ids) + len(item.completion_ids))
        for micro_batch in chunks(by_length, self.config.micro_batch_size):
            loss = -self._logprob_sum(micro_batch) / tokens
            self.check_finite(loss, "the loss", names)
            self.manual_backward(loss)
            total += loss.detach()
        rate = self.learning_rate
        norm = self.optimizer_step_by_hand(names)
        self.steps_done += 1
        self.log_dict(
            {
                "sft/loss": total,
                "sft/grad_norm": norm,
                "sft/learning_rate": rate,
                "sft/completion_tokens": float(tokens),
                "sft/dropped_turns": float(sum(item.prompt.dropped_turns for item in batch)),
            },
            batch_size=len(batch),
        )
        self.log("loss", total, prog_bar=True, logger=False, batch_size=len(batch))

    def validation_step(self, batch: list[SftItem], batch_idx: int) -> None:
        with self.policy.evaluating():
            tokens = sum(len(item.completion_ids) for item in batch)
            loss = sum(-self._logprob_sum(micro) for micro in chunks(batch, self.config.micro_batch_size)) / tokens
        self.log("sft/val_loss", loss, batch_size=tokens, on_step=False, on_epoch=True)

    def _logprob_sum(self, items: Sequence[SftItem]) -> Tensor:
        inputs = collate([item.prompt for item in items], [item.completion_ids for item in items], pad_id=self.policy.pad_id)
        return completion_logprobs(self.policy, inputs.to(self.device), temperature=1.0).logprobs_BC.sum()
