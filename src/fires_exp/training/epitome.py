"""Training of one mechanism of support: its level and its rationale, learned together (Sharma et al., 2020, section 4.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fires_exp.config.scoring import EpitomeConfig
from fires_exp.metrics.classification import macro_f1
from fires_exp.scores.epitome.model import LEVEL_COUNT, Mechanism
from fires_exp.scores.epitome.texts import pad
from fires_exp.training.epitome_data import IGNORED, LabeledPair
from fires_exp.training.stepped_module import SteppedModule, chunks

SCORING_BATCH_SIZE = 64


def level_weights(levels: Sequence[int], loss: str) -> Tensor:
    """[3] weights of the levels in the loss: 1 each for `plain`; for `weighted` inverse to how often a level occurs, 1 on average
    over the pairs. A level that does not occur has weight 1."""
    if loss == "plain":
        return torch.ones(LEVEL_COUNT)
    counts = Counter(levels)
    return torch.tensor([len(levels) / (LEVEL_COUNT * counts[level]) if counts[level] else 1.0 for level in range(LEVEL_COUNT)])


class MechanismModule(SteppedModule):
    """After every epoch the macro-F1 on val is taken; the weights of the best epoch are kept in `best`."""

    def __init__(
        self,
        mechanism: Mechanism,
        config: EpitomeConfig,
        *,
        weights: Tensor,
        val: Sequence[LabeledPair],
        steps_an_epoch: int,
        seed: int,
        pad_id: int,
    ) -> None:
        super().__init__(config.optimizer, total_updates=steps_an_epoch * config.epochs, seed=seed)
        self.mechanism = mechanism
        self.rationale_weight = config.rationale_weight
        self.weights = weights
        self.val = val
        self.steps_an_epoch = steps_an_epoch
        self.pad_id = pad_id
        self.best: dict[str, Tensor] = {}
        self.best_epoch = -1
        self.best_f1 = -1.0
        self.train()

    def training_step(self, batch: list[LabeledPair], batch_idx: int) -> None:
        with self.autocast():
            levels_B3, rationales_BT2 = forward(self.mechanism, batch, self.pad_id, self.device)
        levels_B = torch.tensor([pair.level for pair in batch], device=self.device)
        bits_BT, _ = pad([pair.rationale for pair in batch], IGNORED)
        level_loss = cross_entropy(levels_B3.float(), levels_B, weight=self.weights.to(self.device))
        rationale_loss = cross_entropy(
            rationales_BT2.float().flatten(0, 1), bits_BT.to(self.device).flatten(), ignore_index=IGNORED
        )
        loss = level_loss + self.rationale_weight * rationale_loss
        self.check_finite(loss, "the loss", [])
        self.manual_backward(loss)
        rate = self.learning_rate
        norm = self.optimizer_step_by_hand([])
        self.steps_done += 1
        metrics = {
            "epitome/level_loss": float(level_loss.detach()),
            "epitome/rationale_loss": float(rationale_loss.detach()),
            "epitome/grad_norm": norm,
            "epitome/learning_rate": rate,
        }
        self.record(metrics)
        if self.steps_done % self.steps_an_epoch == 0:
            self._after_epoch()

    def _after_epoch(self) -> None:
        """Log macro-F1 on val; a better epoch's weights are kept, of equal ones the first."""
        found = level_logits(self.mechanism, self.val, self.pad_id, self.device).argmax(dim=-1)
        value = macro_f1([pair.level for pair in self.val], found.tolist(), LEVEL_COUNT)
        if value > self.best_f1:
            self.best = {name: weight.detach().cpu().clone() for name, weight in self.mechanism.state_dict().items()}
            self.best_epoch = self.steps_done // self.steps_an_epoch
            self.best_f1 = value
        self.record({"epitome/val_macro_f1": value})

    def autocast(self) -> Any:
        """bfloat16 products where the device has them; weights, sums and scores stay float32."""
        native = self.device.type == "cuda" or torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
        return torch.autocast(self.device.type, torch.bfloat16, enabled=native)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["best"] = {"weights": self.best, "epoch": self.best_epoch, "f1": self.best_f1}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        best = checkpoint["best"]
        self.best, self.best_epoch, self.best_f1 = best["weights"], int(best["epoch"]), float(best["f1"])


def forward(mechanism: Mechanism, pairs: Sequence[LabeledPair], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Level logits [B, 3] and rationale logits [B, T, 2] of pairs."""
    response, response_mask_BT = pad([pair.response for pair in pairs], pad_id if pairs[0].response.dim() == 1 else 0)
    seeker, seeker_mask_BS = pad([pair.seeker for pair in pairs], 0)
    levels_B3, rationales_BT2 = mechanism(
        response.to(device), response_mask_BT.to(device), seeker.to(device), seeker_mask_BS.to(device)
    )
    return levels_B3, rationales_BT2


@torch.no_grad()
def read_pairs(
    mechanism: Mechanism,
    pairs: Sequence[LabeledPair],
    pad_id: int,
    device: torch.device,
    see: Callable[[int, Tensor, Tensor], None],
) -> None:
    """Give `see` each pair's place, level logits [3] and rationale logits [T, 2], float32, on the CPU."""
    was_training = mechanism.training
    mechanism.eval()
    order = sorted(range(len(pairs)), key=lambda place: len(pairs[place].response))
    for places in chunks(order, SCORING_BATCH_SIZE):
        levels_B3, rationales_BT2 = forward(mechanism, [pairs[place] for place in places], pad_id, device)
        for place, levels_3, rationales_T2 in zip(places, levels_B3.float().cpu(), rationales_BT2.float().cpu(), strict=True):
            see(place, levels_3, rationales_T2[: len(pairs[place].response)])
    mechanism.train(was_training)


def level_logits(mechanism: Mechanism, pairs: Sequence[LabeledPair], pad_id: int, device: torch.device) -> Tensor:
    """[pairs, 3], in order."""
    found: dict[int, Tensor] = {}
    read_pairs(mechanism, pairs, pad_id, device, lambda place, levels_3, _: found.__setitem__(place, levels_3))
    return torch.stack([found[place] for place in range(len(pairs))])
