"""Thoughts for the instances that are learned from: a bank on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fires_exp.data.records import SupportExample
from fires_exp.stages.artefact import Artefact, code_hash
from fires_exp.stages.workspace import Workspace
from fires_exp.thinking.bank import write_bank
from fires_exp.thinking.synthesis import synthesise

BANK = "thoughts.jsonl"


def make_thoughts(work: Workspace) -> Artefact:
    """The bank of the train and val instances."""
    examples: Sequence[SupportExample] = (*work.examples("train"), *work.dataset.examples["val"])
    depends_on = {
        "examples": work.identity(examples, work.dataset),
        "aspects": asdict(work.config.aspects),
        "teacher": asdict(work.config.teacher),
        "code": code_hash("data", "thinking", "stages/synthesise.py"),
    }

    def build(folder: Path) -> None:
        write_bank(folder / BANK, synthesise(examples, work.plan))

    return work.make("thoughts", depends_on, build)
