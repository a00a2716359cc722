"""Old names of keys, groups and options. Each is refused with one line that says what to write today."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from fires_exp.errors import ConfigError

# dotted key or group, with all keys below it
KEYS = {
    "rival": "baseline",
    "trained_rival": "trained_baseline",
    "endpoint": "service",
    "objective": "optimized_metric",
    "trainer.load_ahead": "trainer.prefetch_steps",
    "trainer.refuse_too_big": "trainer.enforce_resource_estimate",
    "teacher.in_flight": "teacher.max_concurrent_requests",
    "baseline.in_flight": "baseline.max_concurrent_requests",
    "reward.judge.in_flight": "reward.judge.max_concurrent_requests",
}

# value of a key, or option of a group
VALUES = {
    ("teacher", "annotations"): "rules",
    ("teacher.name", "annotations"): "rules",
    ("recipe", "rival"): "baseline",
    ("recipe", "train_rival"): "train_baseline",
    ("recipe", "synthesise"): "synthesize",
    ("recipe.name", "rival"): "baseline",
    ("recipe.name", "train_rival"): "train_baseline",
    ("recipe.name", "synthesise"): "synthesize",
    ("recipe.stages", "synthesise"): "synthesize",
    ("recipe.policies", "rival"): "baseline",
}

# options that set sizes: the scale sets them all together
SIZES = {
    ("frames", "demo"): "demo",
    ("prompt", "demo"): "demo",
    ("prompt", "default"): "paper",
    **{(group, size): size for group in ("sft", "grpo", "sampling", "predict") for size in ("demo", "paper", "smoke")},
    **{(group, "smoke"): "smoke" for group in ("metrics", "epitome", "hints")},
}

_OVERRIDE = re.compile(r"(?P<prefix>[+~]*)(?P<key>[^=@]+)(?P<package>@[^=]*)?(?:=(?P<value>.*))?", re.DOTALL)


def refuse_old_overrides(overrides: Sequence[str]) -> None:
    """Raises `ConfigError` for the first override of a command line that has an old name."""
    for override in overrides:
        if not override.startswith("-") and (today := _today(override)) is not None:
            reason = "the scale sets all sizes together" if today.startswith("scale=") else "this name has changed"
            raise ConfigError(f"{override}: {reason}; write {today}")


def refuse_old_names(tree: dict[Any, Any]) -> None:
    """Raises `ConfigError` for the first old name in a composed tree, such as the `resolved.yaml` of an earlier version."""
    for key, value in _entries(tree, ""):
        if (today := _key_today(key)) != key:
            raise ConfigError(f"{key} is called {today} now")
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str) and (key, item) in VALUES:
                raise ConfigError(f"{key}={item}: this value is called {VALUES[key, item]} now")


def _today(override: str) -> str | None:
    """The override with the names of today; None if it has no old name."""
    parts = _OVERRIDE.fullmatch(override)
    if parts is None:
        return None
    prefix, package = parts["prefix"], parts["package"] or ""
    key, value = _key_today(parts["key"]), parts["value"]
    if value is None:
        today = f"{prefix}{key}{package}"
    else:
        for option in re.split(r"[\s,\[\]]+", value):
            if (key, option) in SIZES:
                return f"scale={SIZES[key, option]}"
        values = re.sub(r"[^\s,\[\]]+", lambda option: VALUES.get((key, option[0]), option[0]), value)
        today = f"{prefix}{key}{package}={values}"
    return None if today == override else today


def _key_today(key: str) -> str:
    for old, new in KEYS.items():
        if key == old or key.startswith((f"{old}.", f"{old}/")):
            return _key_today(new + key[len(old) :])
    return key


def _entries(tree: dict[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        yield f"{prefix}{name}", value
        if isinstance(value, dict):
            yield from _entries(value, f"{prefix}{name}.")
