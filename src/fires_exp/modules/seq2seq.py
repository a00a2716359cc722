"""Fine-tuning of a sequence-to-sequence model, all its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fires_exp.config.schema import SftConfig
from fires_exp.modules import ranks
from fires_exp.modules.batches import WholePass
from fires_exp.modules.training import SteppedModule, chunks
from fires_exp.policy.seq2seq import Seq2Seq, Source


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPair:
    """What is read and the ids [T] to learn, of the instance `example_id`."""

    example_id: str
    source: Source
    target_ids: Tensor


class Seq2SeqModule(SteppedModule):
    """Maximises log p(target | source); each target token counts the same within a batch."""

    def __init__(
        self, seq2seq: Seq2Seq, config: SftConfig, *, total_updates: int, seed: int, validation: WholePass[TextPair] | None
    ) -> None:
        super().__init__(config.optimizer, total_updates=total_updates, seed=seed)
        self.seq2seq = seq2seq
        self.config = config
        self.validation = validation
        self.train()

    def training_step(self, batch: list[TextPair], batch_idx: int) -> None:
        names = [pair.example_id for pair in batch]
        (tokens,) = ranks.total(sum(len(pair.target_ids) for pair in batch))
        loss_sum = torch.zeros((), device=self.device)
        for micro_batch in chunks(batch, self.config.micro_batch_size):
            loss = -self._logprob_sum(micro_batch) / tokens
            self.check_finite(loss, "the loss", names)
            self.manual_backward(loss)
            loss_sum += loss.detach()
        rate = self.learning_rate
        norm = self.optimizer_step_by_hand(names)
        self.steps_done += 1
        total, cut = ranks.total(float(loss_sum), sum(pair.source.cut for pair in batch))
        metrics = {
            "sft/loss": total,
            "sft/grad_norm": norm,
            "sft/learning_rate": rate,
            "sft/completion_tokens": float(tokens),
            "sft/cut_histories": float(cut),
        }
        if self.validation is not None and self.is_validation_due(self.config.validate_every_steps):
            metrics["sft/val_loss"] = self._validation_loss(self.validation)
        self.record(metrics)
        self.log("loss", total, prog_bar=True, logger=False, batch_size=len(batch))

    @torch.no_grad()
    def _validation_loss(self, validation: WholePass[TextPair]) -> float:
        """The mean over the target tokens of all validation instances."""
        self.eval()
        found = [(float(-self._logprob_sum([pair])), len(pair.target_ids)) for pair in validation]
        self.train()
        loss, tokens = ranks.total(sum(loss for loss, _ in found), sum(tokens for _, tokens in found))
        return loss / tokens

    def _logprob_sum(self, pairs: Sequence[TextPair]) -> Tensor:
        return self.seq2seq.logprob_sum([pair.source for pair in pairs], [pair.target_ids for pair in pairs])
