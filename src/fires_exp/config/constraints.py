"""Checks a configuration tree against the constraints that its fields declare."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any

from fires_exp.config.field import Group, Setting
from fires_exp.errors import ConfigError


def check(node: Group, key: str) -> None:
    """Raises `ConfigError` for the first value that breaks a constraint, naming its full dotted key below `key`: the keys of a
    group come first, then the contradictions between them."""
    for problem in problems(node, key):
        raise ConfigError(problem)


def problems(node: Group, key: str) -> Iterator[str]:
    """Every broken constraint of the tree, one line each."""
    for field in dataclasses.fields(node):  # type: ignore[arg-type]  # every Group is a dataclass
        value = getattr(node, field.name)
        name = f"{key}.{field.name}" if key else field.name
        if isinstance(value, Group):
            yield from problems(value, name)
        elif value is not None:
            yield from _of_value(name, value, field.metadata["setting"], nullable="None" in str(field.type))
    yield from node.problems(key)


def _of_value(name: str, value: Any, declared: Setting, *, nullable: bool) -> Iterator[str]:
    shown = name if declared.secret else f"{name}={value}"
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{shown}: write a finite number"
    elif isinstance(value, int | float) and not isinstance(value, bool) and not _within(value, declared):
        wanted = f"write a number {_range(declared)}" + (", or null" if nullable else "")
        yield f"{shown}: " + (f"{wanted}; {declared.hint}" if declared.hint else wanted)
    elif isinstance(value, str) and declared.pattern is not None and re.fullmatch(declared.pattern, value) is None:
        yield f"{shown}: {declared.hint or f'write text of the form {declared.pattern}'}"


def _within(value: float, declared: Setting) -> bool:
    return (
        (declared.ge is None or value >= declared.ge)
        and (declared.gt is None or value > declared.gt)
        and (declared.le is None or value <= declared.le)
        and (declared.lt is None or value < declared.lt)
    )


def _range(declared: Setting) -> str:
    """The bounds in words.

    >>> _range(setting("share", gt=0, le=1).metadata["setting"])
    'above 0 and at most 1'
    """
    bounds = (
        ("of at least", declared.ge),
        ("above", declared.gt),
        ("at most", declared.le),
        ("below", declared.lt),
    )
    return " and ".join(
        f"{words} {bound:g}" if bound % 1 else f"{words} {int(bound)}" for words, bound in bounds if bound is not None
    )
