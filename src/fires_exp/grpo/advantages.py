"""Eq. 1: how much better a completion is than its group."""

from __future__ import annotations

import torch
from torch import Tensor

from fires_exp.config.training import AdvantageStd

# rewards this close, relative to the largest, are the same reward: what is left is the rounding of their sums
TIE_TOLERANCE = 1e-9


def tied_groups(rewards_PG: Tensor) -> Tensor:
    """[P] bool: True where all G rewards of a group agree. A tie is told by comparing rewards, never by their std."""
    spread_P = rewards_PG.amax(dim=1) - rewards_PG.amin(dim=1)
    return spread_P <= TIE_TOLERANCE * rewards_PG.abs().amax(dim=1)


def group_advantages(rewards_PG: Tensor, std: AdvantageStd) -> Tensor:
    """A = (r - mean) / std over each group of G (paper, Eq. 1); [P, G] float64.

    The paper does not say which std: `population` divides by G, `sample` by G - 1, `none` leaves the division out (Dr. GRPO).
    A tied group, where Eq. 1 is 0/0, has advantage exactly 0. No epsilon is added.
    """
    rewards_PG = rewards_PG.double()
    centered_PG = rewards_PG - rewards_PG.mean(dim=1, keepdim=True)
    if std != "none":
        scale_P = rewards_PG.std(dim=1, correction=1 if std == "sample" else 0)
        centered_PG = centered_PG / scale_P.clamp_min(torch.finfo(torch.float64).tiny)[:, None]
    return centered_PG.masked_fill(tied_groups(rewards_PG)[:, None], 0.0)
