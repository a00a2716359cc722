"""What the modules share: an optimizer step, checkpoints of what is trained and nothing else, checks that it learns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

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

Item = TypeVar("Item")


def chunks(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    """Consecutive pieces of at most `size`."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def learning_rate_factor(step: int, *, total_steps: int, warmup_ratio: float, schedule: str) -> float:
    """Share of the peak rate at optimizer step `step`, 0-based: linear warm-up over ceil(ratio · total), then the schedule."""
    warmup = math.ceil(warmup_ratio * total_steps)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, total_steps - warmup)
    if schedule == "linear":
        return 1 - progress
    return 0.5 * (1 + math.cos(math.pi * progress)) if schedule == "cosine" else 1.0


class SteppedModule(pl.LightningModule):
    """Trained by hand-made optimizer steps, so that a killed run goes on with the numbers of an uninterrupted one.

    One `training_step` is one batch of the plan; the subclass runs its micro-batches and calls `optimizer_step_by_hand`. Of
    several ranks each runs those of its share, its losses divided by the counts of the whole batch; the step adds gradients up.
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
        """Batches are records; `ModelInputs.to` moves a micro-batch when it is its turn."""
        return batch

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # dropout depends on step and rank alone, so that a run that goes on draws what an uninterrupted one draws
        torch.manual_seed(stream_seed(self.seed, "dropout", self.steps_done, collectives.rank()))
        self.train()

    def optimizer_step_by_hand(self, instances: Iterable[str]) -> float:
        """Add up over the ranks, clip, step, and return the gradient's norm before clipping. Raises `TrainingError` where it is
        not finite."""
        optimizer = self.optimizers()
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        collectives.sum_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.optimizer_config.max_grad_norm)
        self.check_finite(norm, "the gradient", instances)
        self.had_gradient |= float(norm) > 0
        optimizer.step()  # type: ignore[union-attr]
        optimizer.zero_grad()  # type: ignore[union-attr]
        self.lr_schedulers().step()  # type: ignore[union-attr]
        return float(norm)

    def is_validation_due(self, every_steps: int | None) -> bool:
        """Whether the step that was just done is one to validate after; of a stage with fewer steps the last one is."""
        return every_steps is not None and self.steps_done % min(every_steps, self.total_updates) == 0

    def record(self, metrics: Mapping[str, float]) -> None:
        """Give the step that was just done to the loggers at once: the checkpoint is written later, so it never knows of a step
        that they do not. (Lightning's `log_dict` gives it to them after the checkpoint.)"""
        for logger in self.loggers:
            logger.log_metrics(dict(metrics), step=self.steps_done - 1)
            logger.save()

    def check_finite(self, value: Tensor, name: str, instances: Iterable[str]) -> None:
        """Raises `TrainingError` that names the step and its instances."""
        if not torch.isfinite(value).all():
            shown = ", ".join(list(instances)[:8])
            raise TrainingError(
                f"{name} is not finite at step {self.steps_done + 1} (instances {shown}); the last checkpoint is kept. "
                "Lower optimizer.learning_rate, or look at these instances"
            )

    @property
    def shows_a_sign(self) -> bool:
        """Whether the step that was done last is none to go back to."""
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
    """A policy whose adapter is trained."""

    def __init__(self, policy: Policy, lora: LoraConfig, optimizer: OptimizerConfig, *, total_updates: int, seed: int) -> None:
        super().__init__(optimizer, total_updates=total_updates, seed=seed)
        self.policy = policy
        self.trainable_count = check_trainable(policy, lora)
        self.train()
