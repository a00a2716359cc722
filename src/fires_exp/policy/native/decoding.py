"""Decoding that pays for a prompt once: one pass over each prompt, then a token a step for all completions of all prompts.

The keys and values of a prompt are held once, not once a completion, and the completions' own are written in place. A step makes
few calls, since with a few rows a call costs as much as what it computes. On a CPU everything between the products is float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from fires_exp.policy.native.language_model import Attend, LanguageLayer, LanguageModel
from fires_exp.policy.native.shared_prefix import GroupLayout
from fires_exp.policy.native.small_batch_matmul import gated_product_of, product_of, product_of_head
from fires_exp.policy.policy import Policy
from fires_exp.prompts.collate import collate
from fires_exp.prompts.processor import EncodedPrompt


class NativeDecoding:
    """A batch of P prompts with G completions each, row p · G + g. Made and used inside `torch.inference_mode`."""

    def __init__(self, policy: Policy, prompts: Sequence[EncodedPrompt], generations: int, room: int) -> None:
        self.policy = policy
        self.prompts = prompts
        self.generations = generations
        language = self.language = LanguageModel(policy)
        lengths = [len(prompt.prompt_ids) for prompt in prompts]
        like = language.head_weight
        self.dtype = torch.float32 if like.device.type == "cpu" else like.dtype
        shape = (len(language.layers), len(prompts), language.key_heads)
        # keys stand upright: a product with a few queries reads them faster
        self.keys_LPHDT = like.new_zeros(*shape, language.width, max(lengths), dtype=self.dtype)
        self.values_LPHTD = like.new_zeros(*shape, max(lengths), language.width, dtype=self.dtype)
        self.own_keys_LPHMCD = like.new_empty(*shape, generations, room, language.width, dtype=self.dtype)
        self.own_values_LPHMCD = torch.empty_like(self.own_keys_LPHMCD)
        beyond_PT = torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None]
        self.beyond_PT = beyond_PT.to(policy.device) if beyond_PT.any() else None
        self.seats = Seats(torch.arange(len(prompts) * generations) // generations, policy.device)
        self.step = 0

    def first_logits(self) -> Tensor:
        """Logits [B, V] of the first tokens, after each prompt is read."""
        last_states, next_positions = [], []
        for place, prompt in enumerate(self.prompts):
            inputs = collate([prompt], pad_id=self.policy.pad_id).to(self.policy.device)
            positions_3P = self.policy.positions(inputs)[:, 0]
            states_PK = self.language.run(
                self.policy.prompt_states(prompt), self.language.rotation(positions_3P), self._reading(place), recompute=False
            )
            last_states.append(states_PK[-1])
            next_positions.append(positions_3P.max() + 1)
        self.position_B = torch.stack(next_positions).repeat_interleave(self.generations)
        # weights are laid out after the prompts were read, when their large states are gone
        rows = len(self.position_B)
        self.layers = [DecodeLayer(layer, rows, self.dtype) for layer in self.language.layers]
        self.norm_weight = self.language.norm_weight.to(self.dtype)
        self.head = product_of_head(self.language.head_weight, rows)
        return self.head(torch.stack(last_states).to(self.dtype)).repeat_interleave(self.generations, dim=0)

    def next_logits(self, ids_B: Tensor) -> Tensor:
        """Logits [B, V] after the tokens `ids_B` [B]."""
        cosines, sines = self.language.rotation((self.position_B + self.step).expand(3, -1))
        rotation = torch.cat([cosines, cosines], -1).to(self.dtype), torch.cat([-sines, sines], -1).to(self.dtype)
        states_BK = self.policy.token_states(ids_B).to(self.dtype)
        upto = self.step + 1
        memories = zip(
            self.keys_LPHDT.unbind(),
            self.values_LPHTD.unbind(),
            self.own_keys_LPHMCD[..., :upto, :].unbind(),
            self.own_values_LPHMCD[..., :upto, :].unbind(),
            strict=True,
        )
        for layer, memory in zip(self.layers, memories, strict=True):
            states_BK = layer(states_BK, rotation, memory, self.beyond_PT, self.seats)
        self.step += 1
        return self.head(F.rms_norm(states_BK, self.norm_weight.shape, self.norm_weight, self.language.epsilon))

    def keep(self, rows_B: Tensor) -> None:
        """Go on with these rows alone."""
        self.position_B = self.position_B[rows_B]
        prompt_B, seat_B = self.seats.prompt_B[rows_B.cpu()], self.seats.seat_B[rows_B.cpu()]
        left_P = torch.unique(prompt_B)
        if len(left_P) < self.keys_LPHDT.shape[1]:
            self.keys_LPHDT = self.keys_LPHDT[:, left_P]
            self.values_LPHTD = self.values_LPHTD[:, left_P]
            self.beyond_PT = None if self.beyond_PT is None else self.beyond_PT[left_P]
        self.seats = Seats(torch.searchsorted(left_P, prompt_B), self.policy.device)
        old_prompt_PM = prompt_B[self.seats.row_PM][:, None]
        old_seat_PM = seat_B[self.seats.row_PM][:, None]
        heads_H1 = torch.arange(self.language.key_heads)[:, None]
        self.own_keys_LPHMCD = self.own_keys_LPHMCD[:, old_prompt_PM, heads_H1, old_seat_PM]
        self.own_values_LPHMCD = self.own_values_LPHMCD[:, old_prompt_PM, heads_H1, old_seat_PM]

    def _reading(self, place: int) -> Callable[[int], Attend]:
        """Attention over a prompt, whose keys and values are kept on the way."""
        length = len(self.prompts[place].prompt_ids)
        causal = GroupLayout(length, [1], self.policy.device)

        def of_layer(layer: int) -> Attend:
            def attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
                self.keys_LPHDT[layer, place, :, :, :length] = keys.permute(1, 2, 0)
                self.values_LPHTD[layer, place, :, :length] = values.transpose(0, 1)
                return causal.attend(layer)(queries, keys, values)

            return attend

        return of_layer


# a layer's keys and values, of prompts [P, heads, width, T] and [P, heads, T, width], of completions [P, heads, M, C, width]
Memory = tuple[Tensor, Tensor, Tensor, Tensor]


class DecodeLayer:
    """A decoder layer for one token a row. Rows sit beside their prompt (`Seats`) while they attend."""

    def __init__(self, layer: LanguageLayer, rows: int, dtype: torch.dtype) -> None:
        self.width = layer.width
        self.epsilon = layer.epsilon
        self.attention_norm = layer.attention_norm.to(dtype)
        self.mlp_norm = layer.mlp_norm.to(dtype)
        self.query_key_value, self.out, self.down = (
            product_of(one.weights, rows) for one in (layer.query_key_value, layer.out, layer.down)
        )
        self.gated = gated_product_of(layer.gate_up.weights, rows)

    def __call__(
        self, states_BK: Tensor, rotation: tuple[Tensor, Tensor], memory: Memory, beyond_PT: Tensor | None, seats: Seats
    ) -> Tensor:
        """States [B, K] after the layer; the token's own key and value are written at the end of the completions' memory."""
        normed_BK = F.rms_norm(states_BK, self.attention_norm.shape, self.attention_norm, self.epsilon)
        heads_BXD = self.query_key_value(normed_BK).view(len(states_BK), -1, self.width)
        mixed_BK = self._attend(heads_BXD, rotation, memory, beyond_PT, seats)
        states_BK = self.out.added_to(states_BK, mixed_BK)
        normed_BK = F.rms_norm(states_BK, self.mlp_norm.shape, self.mlp_norm, self.epsilon)
        return self.down.added_to(states_BK, self.gated(normed_BK))

    def _attend(
        self, heads_BXD: Tensor, rotation: tuple[Tensor, Tensor], memory: Memory, beyond_PT: Tensor | None, seats: Seats
    ) -> Tensor:
        keys_PHDT, values_PHTD, own_keys, own_values = memory
        prompts, key_heads, seated, so_far, width = own_keys.shape
        queries = heads_BXD.shape[1] - 2 * key_heads
        turned_BXD = heads_BXD.roll(width // 2, -1).mul_(rotation[1]).addcmul_(heads_BXD, rotation[0])
        turned_PXMD, plain_PXMD = seats.by_prompt(turned_BXD), seats.by_prompt(heads_BXD)
        own_keys[:, :, :, -1] = turned_PXMD[:, queries : queries + key_heads]
        own_values[:, :, :, -1] = plain_PXMD[:, queries + key_heads :]
        queries_NQD = (
            (turned_PXMD[:, :queries].view(prompts, key_heads, -1, seated, width) * width**-0.5)
            .transpose(2, 3)
            .reshape(prompts * key_heads, -1, width)
        )  # N = prompts · key heads, Q = seats · queries a key head
        scores_NQT = queries_NQD @ keys_PHDT.flatten(0, 1)
        if beyond_PT is not None:
            scores_NQT.view(prompts, key_heads, -1, scores_NQT.shape[-1]).masked_fill_(beyond_PT[:, None, None], float("-inf"))
        own_queries = queries_NQD.view(prompts * key_heads * seated, -1, width)
        own_scores = own_queries @ own_keys.flatten(0, 2).transpose(1, 2)
        scores = torch.cat([scores_NQT, own_scores.view(*scores_NQT.shape[:2], so_far)], dim=-1)
        shares = torch.softmax(scores, dim=-1, dtype=torch.float32).to(heads_BXD.dtype)
        shared_NQT, own_NQC = torch.split(shares, [scores_NQT.shape[-1], so_far], dim=-1)
        mixed_NQD = shared_NQT @ values_PHTD.flatten(0, 1)
        own_mixed = own_NQC.reshape(*own_queries.shape[:2], so_far) @ own_values.flatten(0, 2)
        mixed_NQD += own_mixed.view_as(mixed_NQD)
        return seats.by_row(mixed_NQD.view(prompts, key_heads, seated, -1, width))


class Seats:
    """Rows of a batch beside the prompts that they belong to: all rows of a prompt meet its keys in one product.

    `prompt_B` [B] is rising. Every prompt has as many seats, M, as the one with most rows; a seat that is not taken holds row 0.
    """

    def __init__(self, prompt_B: Tensor, device: torch.device) -> None:
        self.prompt_B = prompt_B
        taken_P = torch.bincount(prompt_B)
        self.prompts, self.most = len(taken_P), int(taken_P.max())
        self.even = bool((taken_P == self.most).all())
        first_P = taken_P.cumsum(0) - taken_P
        self.seat_B = torch.arange(len(prompt_B)) - first_P[prompt_B]
        self.row_PM = torch.zeros(self.prompts, self.most, dtype=torch.long)
        self.row_PM[prompt_B, self.seat_B] = torch.arange(len(prompt_B))
        self._rows = self.row_PM.flatten().to(device)
        self._places = (prompt_B * self.most + self.seat_B).to(device)

    def by_prompt(self, heads_BXD: Tensor) -> Tensor:
        """[B, heads, width] -> [P, heads, M, width]."""
        seated = heads_BXD if self.even else heads_BXD[self._rows]
        return seated.view(self.prompts, self.most, *heads_BXD.shape[1:]).transpose(1, 2)

    def by_row(self, mixed: Tensor) -> Tensor:
        """[P, key heads, M, queries a key head, width] -> [B, heads · width]."""
        rows = mixed.transpose(1, 2).reshape(self.prompts * self.most, -1)
        return rows if self.even else rows[self._places]
