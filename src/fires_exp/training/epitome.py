"""Training of one EPITOME mechanism: level and rationale are learned jointly (Sharma et al., 2020, section 4.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fires_exp.config.scoring import EpitomeConfig
from fires_exp.data.chunking import chunks
from fires_exp.metrics.classification import macro_f1
from fires_exp.scores.epitome.model import LEVEL_COUNT, Mechanism
from fires_exp.scores.epitome.texts import pad
from fires_exp.training.epitome_data import IGNORED, LabeledPair
from fires_exp.training.stepped_module import SteppedModule

SCORING_BATCH_SIZE = 64


def level_weights(levels: Sequence[int], loss: str) -> Tensor:
    """[3] weights of the levels in the loss. `plain`: 1 each. `weighted`: inversely proportional to the count of the level, with
    mean 1 over the pairs; a level that does not occur has weight 1."""
    if loss == "plain":
        return torch.ones(LEVEL_COUNT)
    counts = Counter(levels)
    return torch.tensor([len(levels) / (LEVEL_COUNT * counts[level]) if counts[level] else 1.0 for level in range(LEVEL_COUNT)])


class MechanismModule(SteppedModule):
    """Trains one mechanism. The macro-F1 on val is computed after every epoch; `best` holds the weights of the best one."""

    def __init__(
        self,
        mechanism: Mechanism,
        config: EpitomeConfig,
        *,
        weights: Tensor,
        val: Sequence[LabeledPair],
        steps_per_epoch: int,
        seed: int,
        pad_id: int,
    ) -> None:
        super().__init__(config.optimizer, total_updates=steps_per_epoch * config.epochs, seed=seed)
        self.mechanism = mechanism
        self.rationale_weight = config.rationale_weight
        self.weights = weights
        self.val = val
        self.steps_per_epoch = steps_per_epoch
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
        learning_rate = self.learning_rate
        grad_norm = self.manual_optimizer_step([])
        self.steps_done += 1
        metrics = {
            "epitome/level_loss": float(level_loss.detach()),
            "epitome/rationale_loss": float(rationale_loss.detach()),
            "epitome/grad_norm": grad_norm,
            "epitome/learning_rate": learning_rate,
        }
        self.record(metrics)
        if self.steps_done % self.steps_per_epoch == 0:
            self._validate()

    def _validate(self) -> None:
        """Log the macro-F1 on val and keep the weights if it is the best so far; of equal epochs the first is kept."""
        predicted = level_logits(self.mechanism, self.val, self.pad_id, self.device).argmax(dim=-1)
        val_f1 = macro_f1([pair.level for pair in self.val], predicted.tolist(), LEVEL_COUNT)
        if val_f1 > self.best_f1:
            self.best = {name: weight.detach().cpu().clone() for name, weight in self.mechanism.state_dict().items()}
            self.best_epoch = self.steps_done // self.steps_per_epoch
            self.best_f1 = val_f1
        self.record({"epitome/val_macro_f1": val_f1})

    def autocast(self) -> Any:
        """bfloat16 matrix products if the device supports them natively; weights, sums and scores stay float32."""
        has_bfloat16 = self.device.type == "cuda" or torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
        return torch.autocast(self.device.type, torch.bfloat16, enabled=has_bfloat16)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["best"] = {"weights": self.best, "epoch": self.best_epoch, "f1": self.best_f1}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        best = checkpoint["best"]
        self.best, self.best_epoch, self.best_f1 = best["weights"], int(best["epoch"]), float(best["f1"])


def forward(mechanism: Mechanism, pairs: Sequence[LabeledPair], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Level logits [B, 3] and rationale logits [B, T, 2] of B pairs."""
    response, response_mask_BT = pad([pair.response for pair in pairs], pad_id if pairs[0].response.dim() == 1 else 0)
    seeker, seeker_mask_BS = pad([pair.seeker for pair in pairs], 0)
    levels_B3, rationales_BT2 = mechanism(
        response.to(device), response_mask_BT.to(device), seeker.to(device), seeker_mask_BS.to(device)
    )
    return levels_B3, rationales_BT2


@torch.no_grad()
def predict_pairs(
    mechanism: Mechanism,
    pairs: Sequence[LabeledPair],
    pad_id: int,
    device: torch.device,
    on_logits: Callable[[int, Tensor, Tensor], None],
) -> None:
    """Call `on_logits` with each pair's index, level logits [3] and rationale logits [T, 2], float32, on the CPU."""
    was_training = mechanism.training
    mechanism.eval()
    by_length = sorted(range(len(pairs)), key=lambda index: len(pairs[index].response))
    for indices in chunks(by_length, SCORING_BATCH_SIZE):
        levels_B3, rationales_BT2 = forward(mechanism, [pairs[index] for index in indices], pad_id, device)
        for index, levels_3, rationales_T2 in zip(indices, levels_B3.float().cpu(), rationales_BT2.float().cpu(), strict=True):
            on_logits(index, levels_3, rationales_T2[: len(pairs[index].response)])
    mechanism.train(was_training)


def level_logits(mechanism: Mechanism, pairs: Sequence[LabeledPair], pad_id: int, device: torch.device) -> Tensor:
    """[pairs, 3] level logits, in the order of the pairs."""
    logits: dict[int, Tensor] = {}
    predict_pairs(mechanism, pairs, pad_id, device, lambda index, levels_3, _: logits.__setitem__(index, levels_3))
    return torch.stack([logits[index] for index in range(len(pairs))])
