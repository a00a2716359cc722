"""AdamW whose state is spread over the ranks by DeepSpeed (ZeRO stage 2), for the trained parameters alone.

DeepSpeed gets a copy of what is trained, an adapter, and never sees the frozen model: it would want all of it in one dtype, and
its hooks would reduce gradients in every backward pass, which hangs where ranks run different numbers of them. The copy gets the
gradients of the whole step as the gradient of a sum, and what DeepSpeed makes of it is copied back.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import torch
from torch import Tensor, nn

_MOMENTS = ("exp_avg", "exp_avg_sq")


class ShardedAdamW:
    """Steps a torch AdamW in DeepSpeed's hands. The learning rate stays that of the AdamW's only parameter group; the state goes
    in and out whole, as AdamW's own, so a run may go on with another strategy."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        (self.group,) = optimizer.param_groups
        self.optimizer = optimizer
        self.trained: list[nn.Parameter] = list(self.group["params"])
        self.copy = nn.ParameterList(nn.Parameter(one.detach().clone()) for one in self.trained)
        self.group["params"] = list(self.copy)
        deepspeed = _deepspeed(self.trained[0].device)
        self.engine, *_ = deepspeed.initialize(
            model=self.copy,
            model_parameters=list(self.copy),
            optimizer=optimizer,
            dist_init_required=False,
            config={
                "train_micro_batch_size_per_gpu": 1,
                "gradient_clipping": 0.0,  # left out, it is 1; clipping is done before
                "zero_allow_untested_optimizer": True,
                "zero_optimization": {"stage": 2, "overlap_comm": False, "contiguous_gradients": True},
            },
        )

    def step(self) -> None:
        """One step with the gradients of the trained parameters, which are the same on all ranks; they are used up."""
        gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in self.trained]
        self.engine.backward(sum((mine * gradient).sum() for mine, gradient in zip(self.copy, gradients, strict=True)))
        self.engine.step()
        with torch.no_grad():
            for one, mine in zip(self.trained, self.copy, strict=True):
                one.copy_(mine)
                one.grad = None

    def state(self) -> dict[str, Any]:
        """The state dict of an AdamW over the trained parameters, put together from all ranks; all ask together."""
        from deepspeed.utils import safe_get_full_optimizer_state

        step = self.optimizer.state[self._part]["step"]
        states = {
            place: {"step": step.clone(), **{name: safe_get_full_optimizer_state(mine, name) for name in _MOMENTS}}
            for place, mine in enumerate(self.copy)
        }
        settings = {name: value for name, value in self.group.items() if name != "params"}
        return {"state": states, "param_groups": [{**settings, "params": list(range(len(self.copy)))}]}

    def load(self, state: dict[str, Any]) -> None:
        """Take this rank's part of such a state dict."""
        part, states = self._part, state["state"]
        own: dict[str, Tensor] = {name: torch.zeros_like(part) for name in _MOMENTS}
        for place, mine in enumerate(self.copy):
            if mine._hp_mapping is None:  # none of it is this rank's
                continue
            here, there = mine._hp_mapping.hp_fragment_address, mine._hp_mapping.lp_fragment_address
            for name, moment in own.items():
                whole = states[place][name].to(part.device).flatten()
                moment.narrow(0, here.start, here.numel).copy_(whole.narrow(0, there.start, there.numel))
        self.optimizer.state[part] = {"step": states[0]["step"].clone(), **own}
        self.group.update({name: value for name, value in state["param_groups"][0].items() if name != "params"})

    def close(self) -> None:
        """Take DeepSpeed's hooks away."""
        self.engine.destroy()

    @property
    def _part(self) -> Tensor:
        """This rank's piece of all parameters, one after the other."""
        (part,) = self.group["params"]
        return part  # type: ignore[no-any-return]


def _deepspeed(device: torch.device) -> Any:
    if device.type == "cpu":
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed

    deepspeed.utils.logging.logger.setLevel(logging.WARNING)
    if device.type == "cpu":
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # takes a minute to compile, and gloo does without
    return deepspeed
