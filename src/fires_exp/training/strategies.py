"""Lightning strategies for distributed training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy, Strategy

from fires_exp.training.zero2 import ShardedAdamW


class SummedDDP(DDPStrategy):
    """Lightning's DDP without torch's wrapper around the model. The module itself sums the gradients, once per optimizer step,
    because ranks may run different numbers of backward passes."""

    def configure_ddp(self) -> None:
        """Do not wrap the model."""


class ShardedDDP(SummedDDP):
    """The same with the optimizer state sharded over the ranks. Checkpoints contain the full state."""

    sharded: ShardedAdamW | None = None

    def setup_optimizers(self, trainer: pl.Trainer) -> None:
        super().setup_optimizers(trainer)
        (optimizer,) = self.optimizers
        self.sharded = ShardedAdamW(optimizer)

    def optimizer_step(
        self, optimizer: torch.optim.Optimizer, closure: Callable[[], Any], model: Any = None, **kwargs: Any
    ) -> Any:
        """Step without calling `closure`: the module has already run its backward passes."""
        assert self.sharded is not None
        self.sharded.step()

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        assert self.sharded is not None
        return self.sharded.state()

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        assert self.sharded is not None
        (state,) = checkpoint["optimizer_states"]
        self.sharded.load(state)

    def teardown(self) -> None:
        if self.sharded is not None:
            self.sharded.close()
        super().teardown()


def strategy_for(name: str, *, distributed: bool) -> Strategy | str:
    """The strategy of trainer.strategy; `auto`, a single device, if the run is not distributed. Lightning starts no processes:
    `distributed.launch` or the cluster has started the ranks."""
    if not distributed:
        return "auto"
    strategies = {"ddp": SummedDDP, "zero2": ShardedDDP}
    return strategies[name](cluster_environment=LightningEnvironment())
