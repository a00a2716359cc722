"""The cold start: next-token loss on synthesised thoughts and reference responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fires_exp.config.schema import SftConfig
from fires_exp.modules import ranks
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
        self.val_sums = (0.0, 0.0)

    def training_step(self, batch: list[SftItem], batch_idx: int) -> None:
        names = [item.prompt.example.id for item in batch]
        (tokens,) = ranks.total(sum(len(item.completion_ids) for item in batch))
        loss_sum = torch.zeros((), device=self.device)
        # similar lengths share a micro-batch, so that little is padded; the sum does not depend on the order
        by_length = sorted(batch, key=lambda item: len(item.prompt.prompt_ids) + len(item.completion_ids))
        for micro_batch in chunks(by_length, self.config.micro_batch_size):
            loss = -self._logprob_sum(micro_batch) / tokens
            self.check_finite(loss, "the loss", names)
            self.manual_backward(loss)
            loss_sum += loss.detach()
        rate = self.learning_rate
        norm = self.optimizer_step_by_hand(names)
        self.steps_done += 1
        total, dropped = ranks.total(float(loss_sum), sum(item.prompt.dropped_turns for item in batch))
        self.log_dict(
            {
                "sft/loss": total,
                "sft/grad_norm": norm,
                "sft/learning_rate": rate,
                "sft/completion_tokens": float(tokens),
                "sft/dropped_turns": float(dropped),
            },
            batch_size=len(batch),
        )
        self.log("loss", total, prog_bar=True, logger=False, batch_size=len(batch))

    def on_validation_epoch_start(self) -> None:
        self.val_sums = (0.0, 0.0)

    def validation_step(self, batch: list[SftItem], batch_idx: int) -> None:
        with self.policy.evaluating():
            losses = [float(-self._logprob_sum(micro)) for micro in chunks(batch, self.config.micro_batch_size)]
        loss, tokens = self.val_sums
        self.val_sums = (loss + sum(losses), tokens + sum(len(item.completion_ids) for item in batch))

    def on_validation_epoch_end(self) -> None:
        loss, tokens = ranks.total(*self.val_sums)
        self.log("sft/val_loss", loss / tokens)

    def _logprob_sum(self, items: Sequence[SftItem]) -> Tensor:
        inputs = collate([item.prompt for item in items], [item.completion_ids for item in items], pad_id=self.policy.pad_id)
        return completion_logprobs(self.policy, inputs.to(self.device), temperature=1.0).logprobs_BC.sum()
