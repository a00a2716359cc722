"""One pass over a prompt and all its completions, the prompt read once.

The rows are the prompt's tokens and then those of the completions, one after the other, without padding:

    prompt  0 … P-1 | completion 0  0 … T_0-2 | completion 1  0 … T_1-2 | …

A completion's last token predicts nothing, so it has no row. Prompt rows attend among themselves, completion rows to the prompt
and to what stands before them in their own completion. Log-probabilities and gradients are those of G separate sequences: what
the completions hand back to the prompt's keys and values adds up there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.rnn import pad_sequence

from fires_exp.policy.native.chunked_logprobs import selected_logprobs
from fires_exp.policy.native.language_model import Attend, LanguageModel
from fires_exp.policy.policy import Policy
from fires_exp.prompts.collate import collate
from fires_exp.prompts.processor import EncodedPrompt


class GroupLayout:
    """Where the rows of a group stand, for completions of `lengths` tokens after `prompt` tokens."""

    def __init__(self, prompt: int, lengths: Sequence[int], device: torch.device) -> None:
        self.prompt = prompt
        self.rows = [length - 1 for length in lengths]
        width = max(self.rows)
        starts = [sum(self.rows[:place]) for place in range(len(lengths))]
        columns_C = torch.arange(width)
        inside_GC = columns_C < torch.tensor(self.rows)[:, None]
        # a place beyond the end of a completion reads row 0; nobody reads what comes out there
        self.padded_GC = torch.where(inside_GC, torch.tensor(starts)[:, None] + columns_C, 0).to(device)
        self.packed_R = inside_GC.flatten().nonzero().squeeze(-1).to(device)
        self.even = all(rows == width for rows in self.rows)
        own_CC = torch.ones(width, width, dtype=torch.bool).tril()
        self.mask_CT = torch.cat([torch.ones(width, prompt, dtype=torch.bool), own_CC], dim=1).to(device)
        # the row before a token predicts it: the prompt's last row the first token of each completion
        self.predicting_T = torch.tensor(
            [
                row
                for start, rows in zip(starts, self.rows, strict=True)
                for row in (prompt - 1, *range(prompt + start, prompt + start + rows))
            ],
            device=device,
        )

    def attend(self, _: int) -> Attend:
        return self._attend

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """[P + R, heads, width] -> [P + R, heads · width]."""
        parts = [self.prompt, len(queries) - self.prompt]
        (prompt_queries, own_queries), (prompt_keys, own_keys), (prompt_values, own_values) = (
            torch.split(states, parts) for states in (queries, keys, values)
        )
        mixed_HPD = F.scaled_dot_product_attention(
            prompt_queries.transpose(0, 1)[None],
            prompt_keys.transpose(0, 1)[None],
            prompt_values.transpose(0, 1)[None],
            is_causal=True,
            enable_gqa=True,
        )[0]
        mixed_PK = mixed_HPD.transpose(0, 1).flatten(1)
        if not parts[1]:
            return mixed_PK
        mixed_GCHD = F.scaled_dot_product_attention(
            self._padded(own_queries).transpose(1, 2),
            self._after_prompt(prompt_keys, own_keys),
            self._after_prompt(prompt_values, own_values),
            attn_mask=self.mask_CT,
            enable_gqa=True,
        ).transpose(1, 2)
        mixed_RK = mixed_GCHD.flatten(0, 1).flatten(1)
        if not self.even:
            mixed_RK = mixed_RK.index_select(0, self.packed_R)
        return torch.cat([mixed_PK, mixed_RK])

    def _padded(self, states_RHD: Tensor) -> Tensor:
        """[R, heads, width] -> [G, C, heads, width]."""
        shape = (*self.padded_GC.shape, *states_RHD.shape[1:])
        return states_RHD.reshape(shape) if self.even else states_RHD.index_select(0, self.padded_GC.flatten()).view(shape)

    def _after_prompt(self, prompt_PHD: Tensor, own_RHD: Tensor) -> Tensor:
        """[G, heads, P + C, width]: the prompt's keys or values before each completion's own."""
        own_GCHD = self._padded(own_RHD)
        return torch.cat([prompt_PHD.expand(len(own_GCHD), -1, -1, -1), own_GCHD], dim=1).transpose(1, 2)


def group_pass(
    policy: Policy, prompt: EncodedPrompt, completions: Sequence[Tensor], temperature: float, *, recompute: bool
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies [G, C] of completions (ids [T]) of one prompt, zero beyond a completion's end."""
    language = LanguageModel(policy)
    inputs = collate([prompt], pad_id=policy.pad_id).to(policy.device)
    positions_3P = policy.positions(inputs)[:, 0]
    lengths = [len(ids) for ids in completions]
    layout = GroupLayout(len(prompt.prompt_ids), lengths, policy.device)
    columns_R = torch.cat([torch.arange(rows, device=policy.device) for rows in layout.rows])
    positions_3T = torch.cat([positions_3P, (positions_3P.max() + 1 + columns_R).expand(3, -1)], dim=1)
    own_ids_R = torch.cat([ids[:-1] for ids in completions]).to(policy.device)
    states_TK = torch.cat([policy.prompt_states(prompt), policy.token_states(own_ids_R)])
    states_TK = language.run(states_TK, language.rotation(positions_3T), layout.attend, recompute=recompute)
    logprobs_T, entropy_T = selected_logprobs(
        states_TK.index_select(0, layout.predicting_T),
        torch.cat(list(completions)).to(policy.device),
        language.head_weight,
        policy.suppressed_V,
        temperature,
    )
    return (
        pad_sequence(list(torch.split(logprobs_T, lengths)), batch_first=True),
        pad_sequence(list(torch.split(entropy_T, lengths)), batch_first=True),
    )
