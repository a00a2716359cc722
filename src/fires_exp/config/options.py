"""The groups of `conf/` with their options, and the keys of the schema by their dotted names."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from fires_exp.config.field import Group, Setting


def conf_folder() -> Path:
    """The folder of the YAML files, in a checkout as in an installed package."""
    return Path(str(files("fires_exp.conf")))


def groups() -> dict[str, tuple[str, ...]]:
    """Group → its options, both sorted; a nested group is named `epitome/encoder`."""
    conf = conf_folder()
    options: dict[str, list[str]] = {}
    for path in sorted(conf.glob("*/**/*.yaml")):
        options.setdefault(path.parent.relative_to(conf).as_posix(), []).append(path.stem)
    return {group: tuple(names) for group, names in sorted(options.items())}


def keys(schema: type[Group]) -> dict[str, tuple[Any, Setting]]:
    """Dotted key → (annotation, declaration) of every key and group of keys, in the order of the schema."""
    return dict(_keys(schema, ""))


def _keys(node: type[Group], prefix: str) -> Iterator[tuple[str, tuple[Any, Setting]]]:
    annotations = typing.get_type_hints(node)
    for field in dataclasses.fields(node):  # type: ignore[arg-type]  # every Group is a dataclass
        annotation, name = annotations[field.name], f"{prefix}{field.name}"
        yield name, (annotation, field.metadata["setting"])
        if (group := group_of(annotation)) is not None:
            yield from _keys(group, f"{name}.")


def group_of(annotation: Any) -> type[Group] | None:
    """The group of keys that an annotation names, also of `DatasetConfig | None`; None for a single key."""
    parts = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return next((part for part in parts if isinstance(part, type) and issubclass(part, Group)), None)


def is_optional(annotation: Any) -> bool:
    return isinstance(annotation, types.UnionType) and type(None) in typing.get_args(annotation)
