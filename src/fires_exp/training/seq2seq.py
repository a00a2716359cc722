"""Full fine-tuning of a sequence-to-sequence model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from fires_exp.config.training import SftConfig
from fires_exp.policy.seq2seq import EncoderInput, Seq2Seq
from fires_exp.training.nll_module import NllModule
from fires_exp.training.step_loader import FullPassLoader


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPair:
    """The source and the target ids [C] of the example `example_id`."""

    example_id: str
    source: EncoderInput
    target_ids: Tensor


class Seq2SeqModule(NllModule[TextPair]):
    """Maximizes log p(target | source)."""

    truncation_metric = "sft/cut_histories"

    def __init__(
        self, seq2seq: Seq2Seq, config: SftConfig, *, total_updates: int, seed: int, validation: FullPassLoader[TextPair] | None
    ) -> None:
        super().__init__(config.optimizer, total_updates=total_updates, seed=seed)
        self.seq2seq = seq2seq
        self.config = config
        self.validation = validation
        self.train()

    def example_id(self, item: TextPair) -> str:
        return item.example_id

    def target_tokens(self, item: TextPair) -> int:
        return len(item.target_ids)

    def truncation(self, item: TextPair) -> int:
        return int(item.source.truncated)

    def logprob_sum(self, items: Sequence[TextPair]) -> Tensor:
        return self.seq2seq.logprob_sum([pair.source for pair in items], [pair.target_ids for pair in items])

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        self.eval()
        yield
        self.train()
