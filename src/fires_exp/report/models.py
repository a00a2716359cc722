"""Who answered in a run, from its configuration as YAML has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def trained_baseline(config: Mapping[str, Any]) -> str | None:
    """The name of the baseline that the sft stage trained, None where it trained our own policy."""
    name = config.get("trained_baseline", {}).get("name", "none")
    return None if name == "none" else name


def trained_model(config: Mapping[str, Any]) -> str | None:
    """The name of the model that was trained and answered."""
    on_seq2seq = trained_baseline(config) is not None and config["trained_baseline"]["model"] == "seq2seq"
    name: str | None = config.get("seq2seq" if on_seq2seq else "backbone", {}).get("name")
    return name
