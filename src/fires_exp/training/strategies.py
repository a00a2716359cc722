"""How Lightning spreads a stage over the ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy, Strategy

from fires_exp.training.zero2 import ShardedAdamW


class SummedDDP(DDPStrategy):
    """Lightning's DDP without torch's wrapper around the model: the module itself adds the gradients up, once an optimizer step,
    whatever number of backward passes a rank has run."""

    def configure_ddp(self) -> None:
        """The model stays as it is."""


class ShardedDDP(SummedDDP):
    """The same, the optimizer's state spread over the ranks; checkpoints hold it whole."""

    sharded: ShardedAdamW | None = None

    def setup_optimizers(self, trainer: pl.Trainer) -> None:
        super().setup_optimizers(trainer)
        (optimizer,) = self.optimizers
        self.sharded = ShardedAdamW(optimizer)

    def optimizer_step(
        self, optimizer: torch.optim.Optimizer, closure: Callable[[], Any], model: Any = None, **kwargs: Any
    ) -> Any:
        """The module has run its backward passes: `closure` does nothing."""
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


def strategy_for(name: str, *, together: bool) -> Strategy | str:
    """`auto` is one device. The ranks were started by `launch` or by the cluster, so Lightning starts none."""
    if not together:
        return "auto"
    kinds = {"ddp": SummedDDP, "zero2": ShardedDDP}
    return kinds[name](cluster_environment=LightningEnvironment())
