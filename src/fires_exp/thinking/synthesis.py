"""Thoughts for many instances: ask the teacher, keep who said what."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from fires_exp.data.records import SupportExample
from fires_exp.thinking.annotations import TEACHER, annotate, rules_hash
from fires_exp.thinking.aspects import ThinkingPlan
from fires_exp.thinking.bank import BankedThought


def synthesise(examples: Iterable[SupportExample], plan: ThinkingPlan) -> Iterator[BankedThought]:
    """One thought an instance, in order. `plan` must think."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    for example in examples:
        yield BankedThought(
            example_id=example.id,
            plan=plan.kind,
            teacher=TEACHER,
            prompt_hash=rules_hash(),
            created=now,
            thought=annotate(example, plan),
        )
