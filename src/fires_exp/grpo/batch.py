"""The rollouts of one step as one record, cut into micro-batches.

Row p·G + g of the batch of B = P·G completions is completion g of prompt p, on every rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fires_exp.data.chunking import chunks
from fires_exp.distributed import collectives
from fires_exp.grpo.loss import LossSettings, token_weights
from fires_exp.grpo.rewards import RewardBreakdown
from fires_exp.grpo.rollouts import RolloutGroup
from fires_exp.prompts.collate import lengths_mask
from fires_exp.prompts.processor import EncodedPrompt


@dataclass(kw_only=True, slots=True)
class MicroBatch:
    """One forward pass: some or all completions of one prompt. Here B is the number of these completions.

    rows                  the rows of the whole batch that these completions are
    prompt                the prompt of all of them, with its images
    completion_ids        B tensors of up to C ids
    mask_BC               bool, True at completion tokens
    sampled_logprobs_BC   log-probabilities when the tokens were drawn
    weights_BC            weights of the tokens in the loss of the whole batch
    old_logprobs_BC       log-probabilities under the policy before the first update; set by the first update
    ref_logprobs_BC       log-probabilities under the reference policy; set while rewards are computed, None if beta = 0

    Not frozen, because the last two are known later than the rest.
    """

    rows: slice
    prompt: EncodedPrompt
    completion_ids: list[Tensor]
    mask_BC: Tensor
    sampled_logprobs_BC: Tensor
    weights_BC: Tensor
    old_logprobs_BC: Tensor | None = None
    ref_logprobs_BC: Tensor | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutBatch:
    """The scored rollouts of one step.

    groups          P groups of G rollouts in the order of the step's prompts, without images; the same on every rank
    rewards         P tuples of G reward breakdowns, aligned with `groups`; the same on every rank
    micro_batches   the completions of this rank's prompts, in row order; may be empty
    """

    groups: tuple[RolloutGroup, ...]
    rewards: tuple[tuple[RewardBreakdown, ...], ...]
    micro_batches: tuple[MicroBatch, ...]

    def __post_init__(self) -> None:
        assert [len(group.rollouts) for group in self.groups] == [len(breakdowns) for breakdowns in self.rewards]

    @property
    def size(self) -> int:
        """B of the whole batch."""
        return sum(len(group.rollouts) for group in self.groups)

    @property
    def token_count(self) -> int:
        """Completion tokens of the whole batch."""
        return sum(len(rollout.completion.ids) for group in self.groups for rollout in group.rollouts)

    @property
    def total_rewards(self) -> Tensor:
        """[P, G] float64."""
        return torch.tensor([[breakdown.total for breakdown in group] for group in self.rewards], dtype=torch.float64)

    @property
    def own_example_ids(self) -> list[str]:
        """The examples of this rank's prompts, for error messages."""
        return list(dict.fromkeys(micro_batch.prompt.example.id for micro_batch in self.micro_batches))


def cut_micro_batches(
    groups: Sequence[RolloutGroup],
    own_groups: Sequence[RolloutGroup],
    *,
    micro_batch_size: int,
    settings: LossSettings,
    device: torch.device,
) -> tuple[MicroBatch, ...]:
    """Cut this rank's groups into micro-batches of at most `micro_batch_size` completions of one group.

    `groups` are those of all ranks, and `own_groups` are this rank's shard of them, with images. Token weights are computed over
    the whole batch, so that the losses of all micro-batches of all ranks add up to its loss.
    """
    completions = [rollout.completion for group in groups for rollout in group.rollouts]
    mask_BC = lengths_mask([len(completion.ids) for completion in completions])
    weights_BC = token_weights(mask_BC, settings)
    sampled_logprobs_BC = pad_sequence([completion.logprobs for completion in completions], batch_first=True)
    micro_batches = []
    for group_index, group in zip(collectives.shard(range(len(groups))), own_groups, strict=True):
        first_row = group_index * len(group.rollouts)
        for row_indices in chunks(range(first_row, first_row + len(group.rollouts)), micro_batch_size):
            rows = slice(row_indices[0], row_indices[-1] + 1)
            completion_ids = [completion.ids for completion in completions[rows]]
            width = max(len(ids) for ids in completion_ids)
            micro_batches.append(
                MicroBatch(
                    rows=rows,
                    prompt=group.prompt,
                    completion_ids=completion_ids,
                    mask_BC=mask_BC[rows, :width].to(device),
                    sampled_logprobs_BC=sampled_logprobs_BC[rows, :width].to(device),
                    weights_BC=weights_BC[rows, :width].to(device),
                )
            )
    return tuple(micro_batches)
