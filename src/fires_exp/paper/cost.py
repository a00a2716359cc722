"""The cost of a table: time, computed and reused stages, memory, machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fires_exp.paper.differences import joined
from fires_exp.paper.table import TableRow
from fires_exp.report.page import in_words
from fires_exp.storage.run_files import completed_stages, stage_state


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """The cost of a row: the summed duration of its runs, their computed and reused stages, the peak memory of any run."""

    row: str
    runs: int
    seconds: float
    computed: int
    reused: int
    memory_bytes: int
    device: str


def costs(rows: Sequence[TableRow]) -> tuple[Cost, ...]:
    """The cost of each row that has runs, in order. A run that belongs to several rows is counted with the first."""
    seen: set[Path] = set()
    row_costs = []
    for row in rows:
        runs = [run for run in row.runs if run.folder not in seen]
        seen |= {run.folder for run in runs}
        if runs:
            states = [stage_state(stage) for run in runs for stage in completed_stages(run.record)]
            row_costs.append(
                Cost(
                    row=row.name,
                    runs=len(runs),
                    seconds=sum(run.record.get("seconds", 0.0) for run in runs),
                    computed=states.count("finished"),
                    reused=states.count("reused"),
                    memory_bytes=max(
                        run.record.get("peak_gpu_memory_bytes") or run.record.get("peak_memory_bytes") or 0 for run in runs
                    ),
                    device=joined(run.record.get("machine") for run in runs),
                )
            )
    return tuple(row_costs)


def total(rows: Sequence[Cost]) -> Cost:
    """The sum over rows; the memory is the highest of any row."""
    return Cost(
        row="all",
        runs=sum(cost.runs for cost in rows),
        seconds=sum(cost.seconds for cost in rows),
        computed=sum(cost.computed for cost in rows),
        reused=sum(cost.reused for cost in rows),
        memory_bytes=max((cost.memory_bytes for cost in rows), default=0),
        device=joined(cost.device for cost in rows),
    )


def cost_sentence(rows: Sequence[Cost]) -> str:
    """The sum in one sentence; empty without rows."""
    if not rows:
        return ""
    cost = total(rows)
    return (
        f"Cost: {cost.runs} {'run' if cost.runs == 1 else 'runs'} took {in_words(cost.seconds)}, "
        f"{cost.computed} stages computed and {cost.reused} reused, on {cost.device or 'an unknown machine'}."
    )
