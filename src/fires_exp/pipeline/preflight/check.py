"""Whether a run fits into this machine, and which settings to lower where it does not.

A run is refused for memory that is counted; where only the heap's gaps, which vary, exceed what is free, it is warned about.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from fires_exp.config.root import Config
from fires_exp.errors import ExhaustedError
from fires_exp.pipeline.preflight.estimate import RunEstimate
from fires_exp.pipeline.preflight.memory import MemoryEstimate
from fires_exp.pipeline.preflight.sizes import Sizes
from fires_exp.pipeline.preflight.suggestions import smallest_change
from fires_exp.pipeline.preflight.table import bytes_text
from fires_exp.pipeline.stage import Stage

log = logging.getLogger("fires_exp.pipeline")


def check_resources(estimate: RunEstimate, stages: Sequence[Stage], sizes: Sizes, config: Config) -> None:
    """Raises `ExhaustedError` for the first stage that cannot fit; a warning with `trainer.enforce_resource_estimate=false`."""
    problems = (_memory_problem(stage, estimate, sizes, config) for stage in stages)
    problem = next((text for text in problems if text), None) or _disk_problem(estimate)
    if problem is None:
        _warn_of_gaps(estimate)
    elif config.trainer.enforce_resource_estimate:
        raise ExhaustedError(f"{problem}; to try it anyway, write trainer.enforce_resource_estimate=false")
    else:
        log.warning("%s", problem)


def _warn_of_gaps(estimate: RunEstimate) -> None:
    free = estimate.free // estimate.processes
    for label, stage in estimate.stages.items():
        if stage.memory is not None and stage.memory.gaps and stage.memory.peak + stage.memory.gaps > free:
            needed = bytes_text(stage.memory.peak + stage.memory.gaps)
            log.warning("%s may take %s of memory, %s are free", label, needed, bytes_text(free))


def _memory_problem(stage: Stage, estimate: RunEstimate, sizes: Sizes, config: Config) -> str | None:
    row = estimate.stages.get(stage.label)
    if row is None or row.memory is None:
        return None
    free = estimate.free // estimate.processes
    limits = [("memory", _peak, free)]
    if estimate.free_gpu is not None:
        limits = [("memory", _host, free), ("GPU memory", _peak, estimate.free_gpu)]
    for kind, part, available in limits:
        if part(row.memory) > available:
            needed, remedy = bytes_text(part(row.memory)), _remedy(stage, part, available, sizes, config)
            return f"{stage.label} would take about {needed} of {kind} and {bytes_text(available)} are free: {remedy}"
    return None


def _remedy(stage: Stage, part: Callable[[MemoryEstimate], int], available: int, sizes: Sizes, config: Config) -> str:
    def need(changed: Config) -> int:
        memory = stage.memory(changed, sizes)
        assert memory is not None
        return part(memory)

    change = smallest_change(config, stage.memory_settings, need, available)
    if change is None:
        return "no setting lowers it enough, choose a smaller backbone or a larger machine"
    settings = " ".join(f"{key}={str(value).lower()}" for key, value in change[0].items())
    return f"write {settings}, which takes {bytes_text(change[1])}"


def _peak(memory: MemoryEstimate) -> int:
    return memory.peak


def _host(memory: MemoryEstimate) -> int:
    return memory.host


def _disk_problem(estimate: RunEstimate) -> str | None:
    if estimate.disk <= estimate.free_disk:
        return None
    return (
        f"the run would write about {bytes_text(estimate.disk)} and {bytes_text(estimate.free_disk)} of disk are free: make "
        "room, or write another paths.artifacts and paths.cache"
    )
