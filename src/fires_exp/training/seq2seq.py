"""Fine-tuning of a sequence-to-sequence model, all its weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from fires_exp.config.training import SftConfig
from fires_exp.policy.seq2seq import EncoderInput, Seq2Seq
from fires_exp.training.nll_module import LikelihoodModule
from fires_exp.training.step_loader import WholePass


@dataclass(frozen=True, kw_only=True, slots=True)
class TextPair:
    """What is read and the ids [T] to learn, of the instance `example_id`."""

    example_id: str
    source: EncoderInput
    target_ids: Tensor


class Seq2SeqModule(LikelihoodModule[TextPair]):
    """Maximizes log p(target | source)."""

    cut_metric = "sft/cut_histories"

    def __init__(
        self, seq2seq: Seq2Seq, config: SftConfig, *, total_updates: int, seed: int, validation: WholePass[TextPair] | None
    ) -> None:
        super().__init__(config.optimizer, total_updates=total_updates, seed=seed)
        self.seq2seq = seq2seq
        self.config = config
        self.validation = validation
        self.train()

    def name_of(self, item: TextPair) -> str:
        return item.example_id

    def tokens_of(self, item: TextPair) -> int:
        return len(item.target_ids)

    def cut_of(self, item: TextPair) -> int:
        return int(item.source.truncated)

    def logprob_sum(self, items: Sequence[TextPair]) -> Tensor:
        return self.seq2seq.logprob_sum([pair.source for pair in items], [pair.target_ids for pair in items])

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        self.eval()
        yield
        self.train()
