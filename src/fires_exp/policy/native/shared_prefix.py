"""One pass over a prompt and all its completions, with the prompt read once.

The rows are the prompt's tokens and then those of the completions, one after the other, without padding:

    prompt  0 … t-1 | completion 0  0 … c_0 - 2 | completion 1  0 … c_1 - 2 | …

The last token of a completion predicts nothing, so it has no row. Rows of the prompt attend to the prompt; rows of a completion
attend to the prompt and to the earlier rows of the same completion. Log-probabilities and gradients equal those of G separate
sequences: the gradients of all completions with respect to the prompt's keys and values are summed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.rnn import pad_sequence

from fires_exp.policy.native.chunked_logprobs import chunked_logprobs
from fires_exp.policy.native.language_model import Attend, LanguageModel
from fires_exp.policy.policy import Policy
from fires_exp.prompts.collate import collate
from fires_exp.prompts.processor import EncodedPrompt


class GroupLayout:
    """Row indices and attention of a group: a prompt of `prompt` tokens with completions of `lengths` tokens.

    Rows are packed (all completions one after the other, [T, …]) or padded to the longest completion ([G, C, …]).
    """

    def __init__(self, prompt: int, lengths: Sequence[int], device: torch.device) -> None:
        self.prompt = prompt
        self.rows = [length - 1 for length in lengths]
        longest = max(self.rows)
        starts = [sum(self.rows[:index]) for index in range(len(lengths))]
        column_C = torch.arange(longest)
        real_mask_GC = column_C < torch.tensor(self.rows)[:, None]
        # padding after the end of a completion repeats row 0; what is computed for it is dropped
        self.row_GC = torch.where(real_mask_GC, torch.tensor(starts)[:, None] + column_C, 0).to(device)
        self.padded_index_T = real_mask_GC.flatten().nonzero().squeeze(-1).to(device)
        self.equal_lengths = all(rows == longest for rows in self.rows)
        causal_mask_CC = torch.ones(longest, longest, dtype=torch.bool).tril()
        self.attention_mask_CT = torch.cat([torch.ones(longest, prompt, dtype=torch.bool), causal_mask_CC], dim=1).to(device)
        # a token is predicted by the row before it: the first token of each completion by the last row of the prompt
        self.predicting_row_T = torch.tensor(
            [
                row
                for start, rows in zip(starts, self.rows, strict=True)
                for row in (prompt - 1, *range(prompt + start, prompt + start + rows))
            ],
            device=device,
        )

    def attend(self, layer: int) -> Attend:
        """The attention, the same for every layer."""
        return self._attend

    def _attend(self, queries_THW: Tensor, keys_TKW: Tensor, values_TKW: Tensor) -> Tensor:
        """Attention outputs [T, H · W] of all rows."""
        sizes = [self.prompt, len(queries_THW) - self.prompt]
        (prompt_queries, own_queries), (prompt_keys, own_keys), (prompt_values, own_values) = (
            torch.split(states, sizes) for states in (queries_THW, keys_TKW, values_TKW)
        )
        prompt_HTW = F.scaled_dot_product_attention(
            prompt_queries.transpose(0, 1)[None],
            prompt_keys.transpose(0, 1)[None],
            prompt_values.transpose(0, 1)[None],
            is_causal=True,
            enable_gqa=True,
        )[0]
        prompt_TD = prompt_HTW.transpose(0, 1).flatten(1)
        if not sizes[1]:
            return prompt_TD
        own_GCHW = F.scaled_dot_product_attention(
            self._pad(own_queries).transpose(1, 2),
            self._after_prompt(prompt_keys, own_keys),
            self._after_prompt(prompt_values, own_values),
            attn_mask=self.attention_mask_CT,
            enable_gqa=True,
        ).transpose(1, 2)
        own_TD = own_GCHW.flatten(0, 1).flatten(1)
        if not self.equal_lengths:
            own_TD = own_TD.index_select(0, self.padded_index_T)
        return torch.cat([prompt_TD, own_TD])

    def _pad(self, packed_THW: Tensor) -> Tensor:
        """Packed rows [T, H, W] -> [G, C, H, W]."""
        shape = (*self.row_GC.shape, *packed_THW.shape[1:])
        if self.equal_lengths:
            return packed_THW.reshape(shape)
        return packed_THW.index_select(0, self.row_GC.flatten()).view(shape)

    def _after_prompt(self, prompt_TKW: Tensor, packed_TKW: Tensor) -> Tensor:
        """[G, K, T + C, W]: the keys or values of the prompt, then those of each completion."""
        own_GCKW = self._pad(packed_TKW)
        return torch.cat([prompt_TKW.expand(len(own_GCKW), -1, -1, -1), own_GCKW], dim=1).transpose(1, 2)


def shared_prefix_logprobs(
    policy: Policy, prompt: EncodedPrompt, completions: Sequence[Tensor], temperature: float, *, recompute: bool
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies [G, C] of completions (ids [C] each) of one prompt, zero after a completion's end."""
    language = LanguageModel(policy)
    inputs = collate([prompt], pad_id=policy.pad_id).to(policy.device)
    prompt_positions_3T = policy.positions(inputs)[:, 0]
    lengths = [len(ids) for ids in completions]
    layout = GroupLayout(len(prompt.prompt_ids), lengths, policy.device)
    column_T = torch.cat([torch.arange(rows, device=policy.device) for rows in layout.rows])
    own_positions_3T = (prompt_positions_3T.max() + 1 + column_T).expand(3, -1)
    positions_3T = torch.cat([prompt_positions_3T, own_positions_3T], dim=1)
    own_ids_T = torch.cat([ids[:-1] for ids in completions]).to(policy.device)
    states_TD = torch.cat([policy.prompt_embeds(prompt), policy.token_embeds(own_ids_T)])
    states_TD = language.run(states_TD, language.rotation(positions_3T), layout.attend, recompute=recompute)
    logprobs_T, entropy_T = chunked_logprobs(
        states_TD.index_select(0, layout.predicting_row_T),
        torch.cat(list(completions)).to(policy.device),
        language.head_weight,
        policy.suppressed_V,
        temperature,
    )
    return (
        pad_sequence(list(torch.split(logprobs_T, lengths)), batch_first=True),
        pad_sequence(list(torch.split(entropy_T, lengths)), batch_first=True),
    )
