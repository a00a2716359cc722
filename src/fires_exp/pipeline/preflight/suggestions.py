"""Smaller values of settings with which a stage fits into memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fires_exp.config.root import Config

# below these a run makes no sense
_MINIMUM: Mapping[str, int] = {
    "grpo.num_generations": 2,
    "sampling.max_new_tokens": 64,
    "predict.decoding.max_new_tokens": 64,
    "prompt.max_tokens": 256,
    "frames.max_pixels": 28 * 28,
    "epitome.max_tokens": 8,
}

Value = int | bool


class LowerValues(NamedTuple):
    """A key, its value now, and smaller values, the largest first. A switch that saves memory has True as its smaller value."""

    key: str
    now: Value
    values: tuple[Value, ...]


def lower_values(config: Config, keys: Sequence[str]) -> list[LowerValues]:
    """The keys that can be lowered, in the given order."""
    rows = []
    for key in keys:
        now = _read(config, key)
        values = (() if now else (True,)) if isinstance(now, bool) else tuple(_halves(now, _MINIMUM.get(key, 1)))
        if values:
            rows.append(LowerValues(key, now, values))
    return rows


def smallest_change(
    config: Config, keys: Sequence[str], need: Callable[[Config], int], available: int
) -> tuple[dict[str, Value], int] | None:
    """The smallest change of settings with which `need`, in bytes, is at most `available`, and the need after it: one key if that
    is enough, else the first ones together, each as low as possible. None where even all of them are not enough."""
    candidates = lower_values(config, keys)
    for key, _, values in candidates:
        for value in values:
            needed = need(with_values(config, {key: value}))
            if needed <= available:
                return {key: value}, needed
    together: dict[str, Value] = {}
    for key, _, values in candidates:
        for value in values:
            needed = need(with_values(config, {**together, key: value}))
            if needed <= available:
                return {**together, key: value}, needed
        together[key] = values[-1]
    return None


def with_values(config: Config, values: Mapping[str, Value]) -> Config:
    """A copy of the configuration with other values, by dotted key."""
    changed = copy.deepcopy(config)
    for key, value in values.items():
        *groups, name = key.split(".")
        node: Any = changed
        for group in groups:
            node = getattr(node, group)
        setattr(node, name, value)
    return changed


def _read(config: Config, key: str) -> Any:
    node: Any = config
    for name in key.split("."):
        node = getattr(node, name)
    return node


def _halves(now: int, minimum: int) -> Iterator[int]:
    while now // 2 >= minimum:
        now //= 2
        yield now
