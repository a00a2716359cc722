"""What a table took: time, stages made and found made, memory, machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fires_exp.paper.differences import joined
from fires_exp.paper.table import TableRow
from fires_exp.report.page import in_words


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What a row took: the seconds of its runs, how many stages they made and how many they found made, and on what."""

    row: str
    runs: int
    seconds: float
    made: int
    reused: int
    memory_bytes: int
    device: str


def costs(rows: Sequence[TableRow]) -> tuple[Cost, ...]:
    """One of each row that ran, in order; a run that several rows mean is counted with the first."""
    seen: set[Path] = set()
    found = []
    for row in rows:
        fresh = [run for run in row.runs if run.folder not in seen]
        seen |= {run.folder for run in fresh}
        if fresh:
            stages = [stage for run in fresh for stage in run.record.get("stages", ())]
            found.append(
                Cost(
                    row=row.name,
                    runs=len(fresh),
                    seconds=sum(run.record.get("seconds", 0.0) for run in fresh),
                    made=sum(not stage["reused"] for stage in stages),
                    reused=sum(stage["reused"] for stage in stages),
                    memory_bytes=max(
                        run.record.get("peak_gpu_memory_bytes") or run.record.get("peak_memory_bytes") or 0 for run in fresh
                    ),
                    device=joined(run.record.get("machine") for run in fresh),
                )
            )
    return tuple(found)


def total(found: Sequence[Cost]) -> Cost:
    """The sum of several rows' costs; memory is the most of any."""
    return Cost(
        row="all",
        runs=sum(cost.runs for cost in found),
        seconds=sum(cost.seconds for cost in found),
        made=sum(cost.made for cost in found),
        reused=sum(cost.reused for cost in found),
        memory_bytes=max((cost.memory_bytes for cost in found), default=0),
        device=joined(cost.device for cost in found),
    )


def in_a_sentence(found: Sequence[Cost]) -> str:
    """The sum in one line; empty where nothing ran."""
    if not found:
        return ""
    cost = total(found)
    return (
        f"Cost: {cost.runs} {'run' if cost.runs == 1 else 'runs'} took {in_words(cost.seconds)}, "
        f"{cost.made} stages made and {cost.reused} reused, on {cost.device or 'a machine that is not told'}."
    )
