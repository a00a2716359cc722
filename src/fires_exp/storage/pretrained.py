"""Pretrained models given as a hub id or as a local folder: how the two are told apart, and the error when loading fails."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub.constants import HF_HUB_OFFLINE

from fires_exp.errors import BackboneError


def is_hub_id(source: object) -> bool:
    """Whether `source` is an id on the Hugging Face hub. A local path starts with ".", "/" or "~"."""
    return isinstance(source, str) and not source.startswith((".", "/", "~"))


def resolve_source(source: str, key: str) -> str:
    """A hub id unchanged, a local path expanded. Raises `BackboneError`, naming the config `key`, if a folder holds no model."""
    if is_hub_id(source):
        return source
    folder = Path(source).expanduser()
    if not (folder / "config.json").is_file():
        raise BackboneError(f"{key}={source}: the folder has no config.json; write a folder saved by transformers, or a hub id")
    return str(folder)


def unreachable_model(model: str, source: str | None, error: Exception, remedy: str) -> BackboneError:
    """The one-line error for a model whose files cannot be loaded. `model` is for example "backbone tiny"."""
    first_line = str(error).strip().splitlines()[0]
    offline = " (HF_HUB_OFFLINE is set)" if HF_HUB_OFFLINE else ""
    return BackboneError(f"{model}: {source} can't be loaded{offline}: {first_line} {remedy}")
