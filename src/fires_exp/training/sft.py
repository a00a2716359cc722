"""The cold start: next-token loss on synthesized thoughts and reference responses."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import Tensor

from fires_exp.config.training import SftConfig
from fires_exp.policy.logprobs import completion_logprobs
from fires_exp.policy.policy import Policy
from fires_exp.prompts.collate import collate
from fires_exp.prompts.processor import EncodedPrompt
from fires_exp.training.nll_module import LikelihoodModule
from fires_exp.training.step_loader import WholePass
from fires_exp.training.stepped_module import AdapterModule


@dataclass(frozen=True, kw_only=True, slots=True)
class SftItem:
    """A prompt and the completion [T] to learn, closed by the end-of-turn token."""

    prompt: EncodedPrompt
    completion_ids: Tensor


class SftModule(LikelihoodModule[SftItem], AdapterModule):
    """Maximizes log pi(completion | prompt); only completion tokens count."""

    cut_metric = "sft/dropped_turns"

    def __init__(
        self, policy: Policy, config: SftConfig, *, total_updates: int, seed: int, validation: WholePass[SftItem] | None
    ) -> None:
        AdapterModule.__init__(self, policy, config.lora, config.optimizer, total_updates=total_updates, seed=seed)
        self.config = config
        self.validation = validation

    def name_of(self, item: SftItem) -> str:
        return item.prompt.example.id

    def tokens_of(self, item: SftItem) -> int:
        return len(item.completion_ids)

    def cut_of(self, item: SftItem) -> int:
        return item.prompt.dropped_turns

    def in_order(self, batch: Sequence[SftItem]) -> Sequence[SftItem]:
        """Similar lengths share a micro-batch, so that little is padded."""
        return sorted(batch, key=lambda item: len(item.prompt.prompt_ids) + len(item.completion_ids))

    def logprob_sum(self, items: Sequence[SftItem]) -> Tensor:
        inputs = collate([item.prompt for item in items], [item.completion_ids for item in items], pad_id=self.policy.pad_id)
        return completion_logprobs(self.policy, inputs.to(self.device), temperature=1.0).logprobs_BC.sum()

    def evaluating(self) -> AbstractContextManager[None]:
        return self.policy.evaluating()
