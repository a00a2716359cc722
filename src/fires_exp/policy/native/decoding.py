"""Decoding that reads a prompt once: one pass over each prompt, then one token per step for all completions of all prompts.

The keys and values of a prompt are stored once, not once per completion, and those of the completions are written in place. A
step makes few calls, since with few rows the overhead of a call is as large as its computation. On a CPU everything between the
matrix products is float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from fires_exp.policy.native.language_model import Attend, LanguageLayer, LanguageModel
from fires_exp.policy.native.shared_prefix import GroupLayout
from fires_exp.policy.native.small_batch_matmul import head_matmul, matmul, swiglu_matmul
from fires_exp.policy.policy import Policy
from fires_exp.prompts.collate import collate
from fires_exp.prompts.processor import EncodedPrompt


class NativeDecoding:
    """A batch of P prompts with G completions each, row p · G + g. Created and used inside `torch.inference_mode`."""

    def __init__(self, policy: Policy, prompts: Sequence[EncodedPrompt], generations: int, max_new_tokens: int) -> None:
        self.policy = policy
        self.prompts = prompts
        self.generations = generations
        language = self.language = LanguageModel(policy)
        lengths = [len(prompt.prompt_ids) for prompt in prompts]
        like = language.head_weight
        self.dtype = torch.float32 if like.device.type == "cpu" else like.dtype
        shape = (len(language.layers), len(prompts), language.key_heads)
        # keys are stored transposed, which makes a product with few queries faster
        self.keys_LPKWT = like.new_zeros(*shape, language.head_width, max(lengths), dtype=self.dtype)
        self.values_LPKTW = like.new_zeros(*shape, max(lengths), language.head_width, dtype=self.dtype)
        self.own_keys_LPKSCW = like.new_empty(*shape, generations, max_new_tokens, language.head_width, dtype=self.dtype)
        self.own_values_LPKSCW = torch.empty_like(self.own_keys_LPKSCW)
        prefix_mask_PT = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        self.prefix_mask_PT = None if prefix_mask_PT.all() else prefix_mask_PT.to(policy.device)  # None: all lengths are equal
        self.slots = Slots(torch.arange(len(prompts) * generations) // generations, policy.device)
        self.step = 0

    def first_logits(self) -> Tensor:
        """Logits [B, V] of the first tokens, after each prompt is read."""
        last_states, next_positions = [], []
        for index, prompt in enumerate(self.prompts):
            inputs = collate([prompt], pad_id=self.policy.pad_id).to(self.policy.device)
            positions_3T = self.policy.positions(inputs)[:, 0]
            states_TD = self.language.run(
                self.policy.prompt_embeds(prompt), self.language.rotation(positions_3T), self._prefill(index), recompute=False
            )
            last_states.append(states_TD[-1])
            next_positions.append(positions_3T.max() + 1)
        self.position_B = torch.stack(next_positions).repeat_interleave(self.generations)
        # weights are repacked after the prompts were read, when the prompts' large states are freed
        rows = len(self.position_B)
        self.layers = [DecodeLayer(layer, rows, self.dtype) for layer in self.language.layers]
        self.norm_weight = self.language.norm_weight.to(self.dtype)
        self.head = head_matmul(self.language.head_weight, rows)
        return self.head(torch.stack(last_states).to(self.dtype)).repeat_interleave(self.generations, dim=0)

    def next_logits(self, ids_B: Tensor) -> Tensor:
        """Logits [B, V] of the tokens after `ids_B` [B]."""
        cosines, sines = self.language.rotation((self.position_B + self.step).expand(3, -1))
        rotation = torch.cat([cosines, cosines], -1).to(self.dtype), torch.cat([-sines, sines], -1).to(self.dtype)
        states_BD = self.policy.token_embeds(ids_B).to(self.dtype)
        length = self.step + 1
        caches = zip(
            self.keys_LPKWT.unbind(),
            self.values_LPKTW.unbind(),
            self.own_keys_LPKSCW[..., :length, :].unbind(),
            self.own_values_LPKSCW[..., :length, :].unbind(),
            strict=True,
        )
        padding_PT = None if self.prefix_mask_PT is None else ~self.prefix_mask_PT
        for layer, cache in zip(self.layers, caches, strict=True):
            states_BD = layer(states_BD, rotation, cache, padding_PT, self.slots)
        self.step += 1
        return self.head(F.rms_norm(states_BD, self.norm_weight.shape, self.norm_weight, self.language.epsilon))

    def select(self, rows: Tensor) -> None:
        """Continue with these rows alone. Prompts without a remaining row are dropped."""
        self.position_B = self.position_B[rows]
        prompt_B, slot_B = self.slots.prompt_B[rows.cpu()], self.slots.slot_B[rows.cpu()]
        remaining_P = torch.unique(prompt_B)
        if len(remaining_P) < self.keys_LPKWT.shape[1]:
            self.keys_LPKWT = self.keys_LPKWT[:, remaining_P]
            self.values_LPKTW = self.values_LPKTW[:, remaining_P]
            self.prefix_mask_PT = None if self.prefix_mask_PT is None else self.prefix_mask_PT[remaining_P]
        self.slots = Slots(torch.searchsorted(remaining_P, prompt_B), self.policy.device)
        old_prompt_P1S = prompt_B[self.slots.row_PS][:, None]
        old_slot_P1S = slot_B[self.slots.row_PS][:, None]
        head_K1 = torch.arange(self.language.key_heads)[:, None]
        self.own_keys_LPKSCW = self.own_keys_LPKSCW[:, old_prompt_P1S, head_K1, old_slot_P1S]
        self.own_values_LPKSCW = self.own_values_LPKSCW[:, old_prompt_P1S, head_K1, old_slot_P1S]

    def _prefill(self, index: int) -> Callable[[int], Attend]:
        """The attention over a prompt, which also stores the prompt's keys and values."""
        length = len(self.prompts[index].prompt_ids)
        causal = GroupLayout(length, [1], self.policy.device)

        def of_layer(layer: int) -> Attend:
            def attend(queries_THW: Tensor, keys_TKW: Tensor, values_TKW: Tensor) -> Tensor:
                self.keys_LPKWT[layer, index, :, :, :length] = keys_TKW.permute(1, 2, 0)
                self.values_LPKTW[layer, index, :, :length] = values_TKW.transpose(0, 1)
                return causal.attend(layer)(queries_THW, keys_TKW, values_TKW)

            return attend

        return of_layer


# a layer's keys and values: of prompts [P, K, W, T] and [P, K, T, W], of completions [P, K, S, C, W] each
LayerCache = tuple[Tensor, Tensor, Tensor, Tensor]


class DecodeLayer:
    """A decoder layer for one token per row. For attention, rows are grouped by their prompt (`Slots`)."""

    def __init__(self, layer: LanguageLayer, rows: int, dtype: torch.dtype) -> None:
        self.head_width = layer.head_width
        self.epsilon = layer.epsilon
        self.attention_norm = layer.attention_norm.to(dtype)
        self.mlp_norm = layer.mlp_norm.to(dtype)
        self.query_key_value, self.out, self.down = (
            matmul(linear.weights, rows) for linear in (layer.query_key_value, layer.out, layer.down)
        )
        self.swiglu = swiglu_matmul(layer.gate_up.weights, rows)

    def __call__(
        self, states_BD: Tensor, rotation: tuple[Tensor, Tensor], cache: LayerCache, padding_PT: Tensor | None, slots: Slots
    ) -> Tensor:
        """States [B, D] after the layer. The token's key and value are written to the last column of the completions' cache.

        `padding_PT` is True after the end of a prompt; None if all prompts have the same length.
        """
        normed_BD = F.rms_norm(states_BD, self.attention_norm.shape, self.attention_norm, self.epsilon)
        heads_BXW = self.query_key_value(normed_BD).view(len(states_BD), -1, self.head_width)
        attended_BD = self._attend(heads_BXW, rotation, cache, padding_PT, slots)
        states_BD = self.out.add_to(states_BD, attended_BD)
        normed_BD = F.rms_norm(states_BD, self.mlp_norm.shape, self.mlp_norm, self.epsilon)
        return self.down.add_to(states_BD, self.swiglu(normed_BD))

    def _attend(
        self, heads_BXW: Tensor, rotation: tuple[Tensor, Tensor], cache: LayerCache, padding_PT: Tensor | None, slots: Slots
    ) -> Tensor:
        keys_PKWT, values_PKTW, own_keys_PKSCW, own_values_PKSCW = cache
        prompts, key_heads, slot_count, length, width = own_keys_PKSCW.shape
        query_heads = heads_BXW.shape[1] - 2 * key_heads
        rotated_BXW = heads_BXW.roll(width // 2, -1).mul_(rotation[1]).addcmul_(heads_BXW, rotation[0])
        rotated_PXSW, plain_PXSW = slots.by_prompt(rotated_BXW), slots.by_prompt(heads_BXW)
        own_keys_PKSCW[:, :, :, -1] = rotated_PXSW[:, query_heads : query_heads + key_heads]
        own_values_PKSCW[:, :, :, -1] = plain_PXSW[:, query_heads + key_heads :]
        # n = P · K, q = S · H / K: the queries of all slots that read one key head of one prompt
        queries_nqW = (
            (rotated_PXSW[:, :query_heads].view(prompts, key_heads, -1, slot_count, width) * width**-0.5)
            .transpose(2, 3)
            .reshape(prompts * key_heads, -1, width)
        )
        scores_nqT = queries_nqW @ keys_PKWT.flatten(0, 1)
        if padding_PT is not None:
            scores_nqT.view(prompts, key_heads, -1, scores_nqT.shape[-1]).masked_fill_(padding_PT[:, None, None], float("-inf"))
        own_queries = queries_nqW.view(prompts * key_heads * slot_count, -1, width)
        own_scores = own_queries @ own_keys_PKSCW.flatten(0, 2).transpose(1, 2)
        scores = torch.cat([scores_nqT, own_scores.view(*scores_nqT.shape[:2], length)], dim=-1)
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(heads_BXW.dtype)
        weights_nqT, own_weights_nqC = torch.split(weights, [scores_nqT.shape[-1], length], dim=-1)
        attended_nqW = weights_nqT @ values_PKTW.flatten(0, 1)
        own_attended = own_weights_nqC.reshape(*own_queries.shape[:2], length) @ own_values_PKSCW.flatten(0, 2)
        attended_nqW += own_attended.view_as(attended_nqW)
        return slots.by_row(attended_nqW.view(prompts, key_heads, slot_count, -1, width))


class Slots:
    """The rows of a batch grouped by prompt, so that all rows of a prompt are multiplied with its keys in one product.

    `prompt_B` [B] is the prompt of each row, in rising order. Every prompt has as many slots, S, as the prompt with most rows; an
    empty slot holds row 0, and what is computed for it is dropped.
    """

    def __init__(self, prompt_B: Tensor, device: torch.device) -> None:
        self.prompt_B = prompt_B
        rows_P = torch.bincount(prompt_B)
        self.prompts, self.slots = len(rows_P), int(rows_P.max())
        self.full = bool((rows_P == self.slots).all())
        first_row_P = rows_P.cumsum(0) - rows_P
        self.slot_B = torch.arange(len(prompt_B)) - first_row_P[prompt_B]
        self.row_PS = torch.zeros(self.prompts, self.slots, dtype=torch.long)
        self.row_PS[prompt_B, self.slot_B] = torch.arange(len(prompt_B))
        self._rows = self.row_PS.flatten().to(device)
        self._flat_slot_B = (prompt_B * self.slots + self.slot_B).to(device)

    def by_prompt(self, heads_BXW: Tensor) -> Tensor:
        """[B, X, W] -> [P, X, S, W]."""
        slotted = heads_BXW if self.full else heads_BXW[self._rows]
        return slotted.view(self.prompts, self.slots, *heads_BXW.shape[1:]).transpose(1, 2)

    def by_row(self, attended: Tensor) -> Tensor:
        """[P, K, S, H / K, W] -> [B, H · W]."""
        rows = attended.transpose(1, 2).reshape(self.prompts * self.slots, -1)
        return rows if self.full else rows[self._flat_slot_B]
