"""The YAML files of `conf/`: which groups and options there are, and the first comment line of each, its description."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

_PACKAGE_LINE = "# @package"


def groups() -> dict[str, tuple[str, ...]]:
    """The names of each group's options, such as {"frames": ("demo", "keyframes", …), "epitome/encoder": (…)}."""
    return dict(_groups_below(files("fires_exp.conf"), ""))


def descriptions(group: str) -> dict[str, str]:
    """The options of a group with the first comment line of each file; empty where it has none."""
    return {name: _first_comment(file) for name, file in _yaml_files(files("fires_exp.conf") / group).items()}


def _groups_below(folder: Traversable, prefix: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.is_dir() and not item.name.startswith(("_", ".")):
            yield prefix + item.name, tuple(_yaml_files(item))
            yield from _groups_below(item, f"{prefix}{item.name}/")


def _yaml_files(folder: Traversable) -> dict[str, Traversable]:
    yaml_files = {item.name.removesuffix(".yaml"): item for item in folder.iterdir() if item.name.endswith(".yaml")}
    return dict(sorted(yaml_files.items()))


def _first_comment(file: Traversable) -> str:
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith(_PACKAGE_LINE):
            return line.lstrip("# ")
        if not line.startswith("#"):
            break
    return ""
