"""The cold start: next-token loss on synthesised thoughts and reference responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fires_exp.config.schema import SftConfig
from fires_exp.modules import ranks
from fires_exp.modules.batches import WholePass
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

    def __init__(
        self, policy: Policy, config: SftConfig, *, total_updates: int, seed: int, validation: WholePass[SftItem] | None
    ) -> None:
        super().__init__(policy, config.lora, config.optimizer, total_updates=total_updates, seed=seed)
        self.config = config
        self.validation = validation

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
        metrics = {
            "sft/loss": total,
            "sft/grad_norm": norm,
            "sft/learning_rate": rate,
            "sft/completion_tokens": float(tokens),
            "sft/dropped_turns": float(dropped),
        }
        if self.validation is not None and self.is_validation_due(self.config.validate_every_steps):
            metrics["sft/val_loss"] = self._validation_loss(self.validation)
        self.record(metrics)
        self.log("loss", total, prog_bar=True, logger=False, batch_size=len(batch))

    @torch.no_grad()
    def _validation_loss(self, validation: WholePass[SftItem]) -> float:
        """The mean over the completion tokens of all validation instances."""
        with self.policy.evaluating():
            found = [(float(-self._logprob_sum([item])), len(item.completion_ids)) for item in validation]
        loss, tokens = ranks.total(sum(loss for loss, _ in found), sum(tokens for _, tokens in found))
        return loss / tokens

    def _logprob_sum(self, items: Sequence[SftItem]) -> Tensor:
        inputs = collate([item.prompt for item in items], [item.completion_ids for item in items], pad_id=self.policy.pad_id)
        return completion_logprobs(self.policy, inputs.to(self.device), temperature=1.0).logprobs_BC.sum()
