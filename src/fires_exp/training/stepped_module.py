"""Base classes of all trained modules: the optimizer step, checkpoints of trainable parameters, checks for finite numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from fires_exp.config.model import LoraConfig
from fires_exp.config.training import OptimizerConfig
from fires_exp.distributed import collectives
from fires_exp.errors import TrainingError
from fires_exp.policy.adapters import check_trainable
from fires_exp.policy.policy import Policy
from fires_exp.policy.sampling import stream_seed


def learning_rate_factor(step: int, *, total_steps: int, warmup_ratio: float, schedule: str) -> float:
    """The learning rate at optimizer step `step`, from 0, as a share of its peak: linear warm-up over ceil(ratio · total) steps,
    then the schedule."""
    warmup = math.ceil(warmup_ratio * total_steps)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total_steps - warmup)
    if schedule == "linear":
        return 1 - progress
    return 0.5 * (1 + math.cos(math.pi * progress)) if schedule == "cosine" else 1.0


class SteppedModule(pl.LightningModule):
    """A module with manual optimization, so that a resumed run computes the same numbers as an uninterrupted one.

    One `training_step` is one batch of the plan: the subclass runs the micro-batches of this rank's shard, with losses divided by
    the counts of the whole batch, and calls `manual_optimizer_step`, which sums the gradients over the ranks.
    """

    def __init__(self, optimizer: OptimizerConfig, *, total_updates: int, seed: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.strict_loading = False
        self.optimizer_config = optimizer
        self.total_updates = total_updates
        self.seed = seed
        self.steps_done = 0
        self.had_gradient = False
        self.stopped_early = False

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        config = self.optimizer_config
        optimizer = torch.optim.AdamW(
            [parameter for parameter in self.parameters() if parameter.requires_grad],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: learning_rate_factor(
                step, total_steps=self.total_updates, warmup_ratio=config.warmup_ratio, schedule=config.schedule
            ),
        )
        return {"optimizer": optimizer, "lr_scheduler": scheduler}

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Leave the batch where it is: batches are records, and each micro-batch is moved when it is used."""
        return batch

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # dropout depends on step and rank only, so that a resumed run draws the same numbers as an uninterrupted one
        torch.manual_seed(stream_seed(self.seed, "dropout", self.steps_done, collectives.rank()))
        self.train()

    def manual_optimizer_step(self, example_ids: Iterable[str]) -> float:
        """Sum the gradients over the ranks, clip them and step; the gradient norm before clipping. A collective.

        Raises `TrainingError` that names `example_ids` if the norm is not finite.
        """
        optimizer = self.optimizers()
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        collectives.sum_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.optimizer_config.max_grad_norm)
        self.check_finite(norm, "the gradient", example_ids)
        self.had_gradient |= float(norm) > 0
        optimizer.step()  # type: ignore[union-attr]
        optimizer.zero_grad()  # type: ignore[union-attr]
        self.lr_schedulers().step()  # type: ignore[union-attr]
        return float(norm)

    def is_validation_due(self, every_steps: int | None) -> bool:
        """Whether to validate after the step just done. A stage with fewer than `every_steps` steps validates after its last."""
        return every_steps is not None and self.steps_done % min(every_steps, self.total_updates) == 0

    def record(self, metrics: Mapping[str, float]) -> None:
        """Log the step just done immediately, before its checkpoint is written, so that no checkpoint contains a step that was
        not logged. (Lightning's `log_dict` logs after the checkpoint.)"""
        for logger in self.loggers:
            logger.log_metrics(dict(metrics), step=self.steps_done - 1)
            logger.save()

    def check_finite(self, value: Tensor, name: str, example_ids: Iterable[str]) -> None:
        """Raises `TrainingError` that names the step and its examples if a number is not finite."""
        if not torch.isfinite(value).all():
            first_ids = ", ".join(list(example_ids)[:8])
            raise TrainingError(
                f"{name} is not finite at step {self.steps_done + 1} (instances {first_ids}); the last checkpoint is kept. "
                "Lower optimizer.learning_rate, or check these instances"
            )

    @property
    def has_collapse_sign(self) -> bool:
        """Whether the last step showed a sign of collapse, so that no checkpoint of it should be kept."""
        return False

    @property
    def learning_rate(self) -> float:
        return float(self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        trainable = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        checkpoint["state_dict"] = {name: value for name, value in checkpoint["state_dict"].items() if name in trainable}
        checkpoint["steps_done"] = self.steps_done
        checkpoint["had_gradient"] = self.had_gradient

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.steps_done = int(checkpoint["steps_done"])
        self.had_gradient = bool(checkpoint["had_gradient"])


class AdapterModule(SteppedModule):
    """A module that trains the adapter of a policy."""

    def __init__(self, policy: Policy, lora: LoraConfig, optimizer: OptimizerConfig, *, total_updates: int, seed: int) -> None:
        super().__init__(optimizer, total_updates=total_updates, seed=seed)
        self.policy = policy
        self.trainable_count = check_trainable(policy, lora)
        self.train()
