"""AdamW with its state sharded over the ranks by DeepSpeed (ZeRO stage 2), for the trainable parameters only.

DeepSpeed manages a copy of the trainable parameters, an adapter, and not the frozen model: it would require one dtype for all of
it, and its hooks would reduce gradients in every backward pass, which deadlocks if ranks run different numbers of them. The copy
receives the gradients of the whole step as the gradient of a weighted sum, and its updated values are copied back.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import torch
from torch import Tensor, nn

_MOMENTS = ("exp_avg", "exp_avg_sq")


class ShardedAdamW:
    """Steps a torch AdamW through DeepSpeed. The learning rate is that of the AdamW's only parameter group. The state is saved
    and loaded in full, in AdamW's own format, so that a run may resume with another strategy."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        (self.group,) = optimizer.param_groups
        self.optimizer = optimizer
        self.trained: list[nn.Parameter] = list(self.group["params"])
        self.copy = nn.ParameterList(nn.Parameter(parameter.detach().clone()) for parameter in self.trained)
        self.group["params"] = list(self.copy)
        deepspeed = _deepspeed(self.trained[0].device)
        self.engine, *_ = deepspeed.initialize(
            model=self.copy,
            model_parameters=list(self.copy),
            optimizer=optimizer,
            dist_init_required=False,
            config={
                "train_micro_batch_size_per_gpu": 1,
                "gradient_clipping": 0.0,  # the default is 1; gradients are clipped before
                "zero_allow_untested_optimizer": True,
                "zero_optimization": {"stage": 2, "overlap_comm": False, "contiguous_gradients": True},
            },
        )

    def step(self) -> None:
        """One step with the gradients of the trained parameters, which must be the same on all ranks; they are set to None."""
        gradients = [torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in self.trained]
        self.engine.backward(sum((copy * gradient).sum() for copy, gradient in zip(self.copy, gradients, strict=True)))
        self.engine.step()
        with torch.no_grad():
            for parameter, copy in zip(self.trained, self.copy, strict=True):
                parameter.copy_(copy)
                parameter.grad = None

    def state(self) -> dict[str, Any]:
        """The full state dict of an AdamW over the trained parameters, gathered from all ranks. A collective."""
        from deepspeed.utils import safe_get_full_optimizer_state

        step = self.optimizer.state[self._own_shard]["step"]
        states = {
            index: {"step": step.clone(), **{name: safe_get_full_optimizer_state(copy, name) for name in _MOMENTS}}
            for index, copy in enumerate(self.copy)
        }
        settings = {name: value for name, value in self.group.items() if name != "params"}
        return {"state": states, "param_groups": [{**settings, "params": list(range(len(self.copy)))}]}

    def load(self, state: dict[str, Any]) -> None:
        """Load this rank's shard of such a state dict."""
        shard, states = self._own_shard, state["state"]
        moments: dict[str, Tensor] = {name: torch.zeros_like(shard) for name in _MOMENTS}
        for index, copy in enumerate(self.copy):
            if copy._hp_mapping is None:  # no part of this parameter is in this rank's shard
                continue
            in_shard, in_parameter = copy._hp_mapping.hp_fragment_address, copy._hp_mapping.lp_fragment_address
            for name, moment in moments.items():
                full = states[index][name].to(shard.device).flatten()
                moment.narrow(0, in_shard.start, in_shard.numel).copy_(full.narrow(0, in_parameter.start, in_parameter.numel))
        self.optimizer.state[shard] = {"step": states[0]["step"].clone(), **moments}
        self.group.update({name: value for name, value in state["param_groups"][0].items() if name != "params"})

    def close(self) -> None:
        """Remove DeepSpeed's hooks."""
        self.engine.destroy()

    @property
    def _own_shard(self) -> Tensor:
        """This rank's shard of the concatenated parameters."""
        (shard,) = self.group["params"]
        return shard  # type: ignore[no-any-return]


def _deepspeed(device: torch.device) -> Any:
    if device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed

    deepspeed.utils.logging.logger.setLevel(logging.WARNING)
    if device.type == "cpu":
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # takes a minute to compile, and gloo does not need it
    return deepspeed
