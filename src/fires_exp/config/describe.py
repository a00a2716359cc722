"""`python -m fires_exp.config.describe FILE` writes the reference of every configuration key, from the schema and `conf/`."""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from fires_exp.config.load import register_schema
from fires_exp.config.schema import Config

HEADER = """# Configuration

Written by `make docs` from `src/fires_exp/config/schema.py` and `conf/`; a test compares the two.

Every key can be set on the command line, `python -m fires_exp grpo.beta=0.04`; a whole group is swapped by its option's name,
`aspects=wo_situation`; an experiment sets several at once, `+experiment=wo_situation`.

## Groups

| group | options (the default run's in bold) |
| --- | --- |
"""


def describe() -> str:
    """The page as Markdown."""
    register_schema()
    with initialize_config_module("fires_exp.conf", version_base="1.3"):
        tree = compose("config", return_hydra_config=True)
    chosen = tree.hydra.runtime.choices
    lines = [HEADER + "\n".join(_group_row(folder, chosen) for folder in _groups()), "", "## Keys", ""]
    lines += ["| key | type | default run | paper | meaning |", "| --- | --- | --- | --- | --- |"]
    with initialize_config_module("fires_exp.conf", version_base="1.3"):
        paper = compose("config", overrides=["+experiment=fires"])
    for name, kind, meaning in _leaves(Config, ""):
        ours, theirs = _value(tree, name), _value(paper, name)
        shown = "" if ours == theirs else f"`{theirs}`"
        lines.append(f"| `{name}` | {kind} | `{ours}` | {shown} | {meaning} |")
    return "\n".join(lines).replace("||", "| |") + "\n"


def _groups() -> list[Path]:
    conf = Path(__file__).parents[3] / "conf"
    return sorted(folder for folder in conf.iterdir() if folder.is_dir() and any(folder.glob("*.yaml")))


def _group_row(folder: Path, chosen: DictConfig) -> str:
    options = sorted(path.stem for path in folder.glob("*.yaml"))
    return f"| `{folder.name}` | {', '.join(f'**{name}**' if chosen.get(folder.name) == name else name for name in options)} |"


def _leaves(node: type, prefix: str) -> Iterator[tuple[str, str, str]]:
    hints = typing.get_type_hints(node)
    for field in dataclasses.fields(node):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            yield from _leaves(kind, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", _kind_name(kind), field.metadata["meaning"].replace("|", "\\|")


def _kind_name(kind: Any) -> str:
    if isinstance(kind, types.UnionType):
        return " or ".join("null" if part is type(None) else _kind_name(part) for part in typing.get_args(kind))
    if dataclasses.is_dataclass(kind):
        return "a dataset"
    return str(getattr(kind, "__name__", kind)) if typing.get_origin(kind) is None else str(kind)


def _value(tree: DictConfig, name: str) -> str:
    parent, _, leaf = name.rpartition(".")
    node = OmegaConf.select(tree, parent) if parent else tree
    value = OmegaConf.to_container(node, resolve=False)[leaf]  # type: ignore[index, call-overload]
    return ("null" if value is None else str(value)).replace("|", "\\|")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(describe(), encoding="utf-8")
