"""Steps of maximum likelihood: those of SFT, and of baselines that are fine-tuned."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

import torch
from torch import Tensor

from fires_exp.config.training import SftConfig
from fires_exp.distributed import collectives
from fires_exp.training.step_loader import WholePass
from fires_exp.training.stepped_module import SteppedModule, chunks

Item = TypeVar("Item")


class LikelihoodModule(SteppedModule, Generic[Item]):
    """Maximizes the log-probability of what each item is to learn; every learned token counts the same within a batch.

    A subclass sets `config` and `validation` and says what an item is. `cut_metric` names the count of `cut_of`.
    """

    config: SftConfig
    validation: WholePass[Item] | None
    cut_metric: str

    def name_of(self, item: Item) -> str:
        """The instance that it comes from."""
        raise NotImplementedError

    def tokens_of(self, item: Item) -> int:
        """How many are learned."""
        raise NotImplementedError

    def cut_of(self, item: Item) -> int:
        """How much of its history did not fit."""
        raise NotImplementedError

    def in_order(self, batch: Sequence[Item]) -> Sequence[Item]:
        """The batch as it is cut into micro-batches; the sum does not depend on it."""
        return batch

    def logprob_sum(self, items: Sequence[Item]) -> Tensor:
        """Of all learned tokens of some items."""
        raise NotImplementedError

    def evaluating(self) -> AbstractContextManager[None]:
        """The model without dropout."""
        raise NotImplementedError

    def training_step(self, batch: list[Item], batch_idx: int) -> None:
        names = [self.name_of(item) for item in batch]
        (tokens,) = collectives.total(sum(map(self.tokens_of, batch)))
        loss_sum = torch.zeros((), device=self.device)
        for micro_batch in chunks(self.in_order(batch), self.config.micro_batch_size):
            loss = -self.logprob_sum(micro_batch) / tokens
            self.check_finite(loss, "the loss", names)
            self.manual_backward(loss)
            loss_sum += loss.detach()
        rate = self.learning_rate
        norm = self.optimizer_step_by_hand(names)
        self.steps_done += 1
        total, cut = collectives.total(float(loss_sum), sum(map(self.cut_of, batch)))
        metrics = {
            "sft/loss": total,
            "sft/grad_norm": norm,
            "sft/learning_rate": rate,
            "sft/completion_tokens": float(tokens),
            self.cut_metric: float(cut),
        }
        if self.validation is not None and self.is_validation_due(self.config.validate_every_steps):
            metrics["sft/val_loss"] = self._validation_loss(self.validation)
        self.record(metrics)
        self.log("loss", total, prog_bar=True, logger=False, batch_size=len(batch))

    @torch.no_grad()
    def _validation_loss(self, validation: WholePass[Item]) -> float:
        """The mean over the learned tokens of all validation instances."""
        with self.evaluating():
            found = [(float(-self.logprob_sum([item])), self.tokens_of(item)) for item in validation]
        loss, tokens = collectives.total(sum(loss for loss, _ in found), sum(tokens for _, tokens in found))
        return loss / tokens
