"""What can be lowered where a stage is too big: first what leaves its result as it is, then what does not."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fires_exp.config.root import Config

_KEYS = {
    "sft": ("sft.micro_batch_size", "sft.gradient_checkpointing", "prompt.max_tokens"),
    "grpo": (
        "grpo.micro_batch_size", "grpo.gradient_checkpointing", "grpo.batch_size", "grpo.num_generations",
        "sampling.max_new_tokens", "prompt.max_tokens",
    ),
    "predictions": ("predict.batch_size", "predict.decoding.max_new_tokens", "prompt.max_tokens"),
}  # fmt: skip
_LEAST = {
    "grpo.num_generations": 2,
    "sampling.max_new_tokens": 64,
    "predict.decoding.max_new_tokens": 64,
    "prompt.max_tokens": 256,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Lever:
    """A key, its value now, and smaller ones, the largest first."""

    key: str
    now: int | bool
    lower: tuple[int | bool, ...]


def levers(config: Config, stage: str) -> list[Lever]:
    """Those of a stage that can still be lowered, in the order in which they should be."""
    found = []
    for key in _KEYS.get(stage, ()):
        now = _leaf(config, key)
        lower = _lower(now, _LEAST.get(key, 1))
        if lower:
            found.append(Lever(key=key, now=now, lower=lower))
    return found


def what_fits(config: Config, stage: str, need: Callable[[Config], int], room: int) -> tuple[dict[str, int | bool], int] | None:
    """The smallest change with which `need` is at most `room`, and what is needed then: one key if one will do, else the first
    ones together, each as low as it goes. None where not even all of them will."""
    for lever in levers(config, stage):
        for value in lever.lower:
            taken = need(changed(config, {lever.key: value}))
            if taken <= room:
                return {lever.key: value}, taken
    together: dict[str, int | bool] = {}
    for lever in levers(config, stage):
        for value in lever.lower:
            taken = need(changed(config, {**together, lever.key: value}))
            if taken <= room:
                return {**together, lever.key: value}, taken
        together[lever.key] = lever.lower[-1]
    return None


def changed(config: Config, leaves: dict[str, int | bool]) -> Config:
    """A copy with other leaves."""
    other = copy.deepcopy(config)
    for key, value in leaves.items():
        *groups, name = key.split(".")
        place: Any = other
        for group in groups:
            place = getattr(place, group)
        setattr(place, name, value)
    return other


def _leaf(config: Config, key: str) -> Any:
    place: Any = config
    for name in key.split("."):
        place = getattr(place, name)
    return place


def _lower(now: int | bool, least: int) -> tuple[int | bool, ...]:
    """Halves; of a switch that saves memory, on."""
    if isinstance(now, bool):
        return () if now else (True,)
    return tuple(_halves(now, least))


def _halves(now: int, least: int) -> Iterator[int]:
    while now // 2 >= least:
        now //= 2
        yield now
