"""How Lightning spreads a stage over the ranks."""

from __future__ import annotations

from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy, Strategy


class SummedDDP(DDPStrategy):
    """Lightning's DDP without torch's wrapper around the model: the module itself adds the gradients up, once an optimiser step,
    whatever number of backward passes a rank has run."""

    def configure_ddp(self) -> None:
        """The model stays as it is."""


def strategy_for(*, together: bool) -> Strategy | str:
    """`auto` is one device. The ranks were started by `launch` or by the cluster, so Lightning starts none."""
    return SummedDDP(cluster_environment=LightningEnvironment()) if together else "auto"
