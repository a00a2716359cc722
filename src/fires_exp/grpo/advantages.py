"""Eq. 1: the advantage of a completion over the other completions of its group. Pure functions of tensors.

Departures from the paper: it does not define the std, so `std` is an option; and it does not define 0/0 for tied groups.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fires_exp.config.training import AdvantageStd

# rewards that differ by at most this share of the largest one count as equal: such differences are rounding errors of their sums
TIE_TOLERANCE = 1e-9


def tied_groups(rewards_PG: Tensor) -> Tensor:
    """[P] bool: True where all G rewards of a group are equal. Rewards are compared directly: a std of equal floating-point
    numbers need not be 0."""
    spread_P = rewards_PG.amax(dim=1) - rewards_PG.amin(dim=1)
    return spread_P <= TIE_TOLERANCE * rewards_PG.abs().amax(dim=1)


def group_advantages(rewards_PG: Tensor, std: AdvantageStd) -> Tensor:
    """Eq. 1: A = (r - mean) / std over each group of G; [P, G] float64.

    `population` divides by the std with denominator G, `sample` by the std with denominator G - 1, and `none` only subtracts the
    mean (Dr. GRPO). All advantages of a tied group, where Eq. 1 is 0/0, are exactly 0. No epsilon is added to the std.
    """
    rewards_PG = rewards_PG.double()
    centered_PG = rewards_PG - rewards_PG.mean(dim=1, keepdim=True)
    if std != "none":
        std_P = rewards_PG.std(dim=1, correction=1 if std == "sample" else 0)
        centered_PG = centered_PG / std_P.clamp_min(torch.finfo(torch.float64).tiny)[:, None]
    return centered_PG.masked_fill(tied_groups(rewards_PG)[:, None], 0.0)
