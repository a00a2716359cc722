"""SFT, the cold start of GRPO: next-token loss on synthesized thoughts and reference responses."""

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
from fires_exp.training.nll_module import NllModule
from fires_exp.training.step_loader import FullPassLoader
from fires_exp.training.stepped_module import AdapterModule


@dataclass(frozen=True, kw_only=True, slots=True)
class SftItem:
    """A prompt and its target completion, [C] ids with the closing end-of-turn token."""

    prompt: EncodedPrompt
    completion_ids: Tensor


class SftModule(NllModule[SftItem], AdapterModule):
    """Maximizes log pi(completion | prompt). Prompt tokens are not targets."""

    truncation_metric = "sft/dropped_turns"

    def __init__(
        self, policy: Policy, config: SftConfig, *, total_updates: int, seed: int, validation: FullPassLoader[SftItem] | None
    ) -> None:
        AdapterModule.__init__(self, policy, config.lora, config.optimizer, total_updates=total_updates, seed=seed)
        self.config = config
        self.validation = validation

    def example_id(self, item: SftItem) -> str:
        return item.prompt.example.id

    def target_tokens(self, item: SftItem) -> int:
        return len(item.completion_ids)

    def truncation(self, item: SftItem) -> int:
        return item.prompt.dropped_turns

    def micro_batch_order(self, batch: Sequence[SftItem]) -> Sequence[SftItem]:
        """By length, so that a micro-batch needs little padding."""
        return sorted(batch, key=lambda item: len(item.prompt.prompt_ids) + len(item.completion_ids))

    def logprob_sum(self, items: Sequence[SftItem]) -> Tensor:
        inputs = collate([item.prompt for item in items], [item.completion_ids for item in items], pad_id=self.policy.pad_id)
        return completion_logprobs(self.policy, inputs.to(self.device), temperature=1.0).logprobs_BC.sum()

    def evaluating(self) -> AbstractContextManager[None]:
        return self.policy.evaluating()
