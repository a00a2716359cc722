"""Training by negative log-likelihood: SFT, and fine-tuned baselines."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Generic, TypeVar

import torch
from torch import Tensor

from fires_exp.config.training import SftConfig
from fires_exp.data.chunking import chunks
from fires_exp.distributed import collectives
from fires_exp.training.step_loader import FullPassLoader
from fires_exp.training.stepped_module import SteppedModule

Item = TypeVar("Item")


class NllModule(SteppedModule, Generic[Item]):
    """Minimizes the negative log-likelihood of the target tokens, averaged over all target tokens of a batch.

    A subclass sets `config`, `validation` and `truncation_metric`, the logged name of what `truncation` counts, and defines what
    an item is by the methods below.
    """

    config: SftConfig
    validation: FullPassLoader[Item] | None
    truncation_metric: str

    def example_id(self, item: Item) -> str:
        """The id of the item's example."""
        raise NotImplementedError

    def target_tokens(self, item: Item) -> int:
        """Number of target tokens."""
        raise NotImplementedError

    def truncation(self, item: Item) -> int:
        """How much of the history did not fit into the model's input."""
        raise NotImplementedError

    def micro_batch_order(self, batch: Sequence[Item]) -> Sequence[Item]:
        """The batch in the order in which it is cut into micro-batches."""
        return batch

    def logprob_sum(self, items: Sequence[Item]) -> Tensor:
        """Sum of the log-probabilities of all target tokens of the items."""
        raise NotImplementedError

    def evaluating(self) -> AbstractContextManager[None]:
        """A context in which the model is in evaluation mode, without dropout."""
        raise NotImplementedError

    def training_step(self, batch: list[Item], batch_idx: int) -> None:
        example_ids = [self.example_id(item) for item in batch]
        (tokens,) = collectives.all_sum(sum(map(self.target_tokens, batch)))
        loss_sum = torch.zeros((), device=self.device)
        for micro_batch in chunks(self.micro_batch_order(batch), self.config.micro_batch_size):
            loss = -self.logprob_sum(micro_batch) / tokens
            self.check_finite(loss, "the loss", example_ids)
            self.manual_backward(loss)
            loss_sum += loss.detach()
        learning_rate = self.learning_rate
        grad_norm = self.manual_optimizer_step(example_ids)
        self.steps_done += 1
        batch_loss, truncation = collectives.all_sum(float(loss_sum), sum(map(self.truncation, batch)))
        metrics = {
            "sft/loss": batch_loss,
            "sft/grad_norm": grad_norm,
            "sft/learning_rate": learning_rate,
            "sft/completion_tokens": float(tokens),
            self.truncation_metric: float(truncation),
        }
        if self.validation is not None and self.is_validation_due(self.config.validate_every_steps):
            metrics["sft/val_loss"] = self._validation_loss(self.validation)
        self.record(metrics)
        self.log("loss", batch_loss, prog_bar=True, logger=False, batch_size=len(batch))

    @torch.no_grad()
    def _validation_loss(self, validation: FullPassLoader[Item]) -> float:
        """The mean loss over the target tokens of all validation examples."""
        with self.evaluating():
            losses = [(float(-self.logprob_sum([item])), self.target_tokens(item)) for item in validation]
        loss, tokens = collectives.all_sum(sum(loss for loss, _ in losses), sum(tokens for _, tokens in losses))
        return loss / tokens
