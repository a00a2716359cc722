"""Whether a run fits into this machine, and what to lower where it does not.

Refused is what is counted and does not fit; where only the heap's gaps, which vary, are too much, it is a warning.
"""

from __future__ import annotations

import logging

from fires_exp.config.root import Config
from fires_exp.errors import ExhaustedError
from fires_exp.pipeline.preflight.estimate import Outlook, StageAhead, memory_of
from fires_exp.pipeline.preflight.suggestions import what_fits
from fires_exp.pipeline.preflight.text import told

log = logging.getLogger("fires_exp.pipeline")


def refuse_too_big(outlook: Outlook, config: Config) -> None:
    """Raises `ExhaustedError` for the first stage that can't fit, or warns with `trainer.enforce_resource_estimate=false`."""
    problem = next((found for one in outlook.stages if (found := _too_big(one, outlook, config))), None) or _disk_too_small(
        outlook
    )
    if problem is None:
        _warn_of_gaps(outlook)
        return
    if config.trainer.enforce_resource_estimate:
        raise ExhaustedError(f"{problem}; trainer.enforce_resource_estimate=false tries it all the same")
    log.warning("%s", problem)


def _warn_of_gaps(outlook: Outlook) -> None:
    room = outlook.free // outlook.processes
    for one in outlook.stages:
        if one.memory is not None and one.memory.gaps and one.memory.peak + one.memory.gaps > room:
            log.warning("%s may take %s of memory, %s are free", one.label, told(one.memory.peak + one.memory.gaps), told(room))


def _too_big(one: StageAhead, outlook: Outlook, config: Config) -> str | None:
    if one.memory is None:
        return None
    machine = outlook.free // outlook.processes
    rooms = [("memory", one.memory.host, machine, False)]
    if outlook.free_gpu is None:
        rooms = [("memory", one.memory.peak, machine, True)]
    else:
        rooms.append(("GPU memory", one.memory.peak, outlook.free_gpu, True))
    for kind, wanted, room, on_device in rooms:
        if wanted > room:
            remedy = what_to_lower(outlook, config, one.stage, room, on_device=on_device)
            return f"{one.label} would take about {told(wanted)} of {kind} and {told(room)} are free: {remedy}"
    return None


def what_to_lower(outlook: Outlook, config: Config, stage: str, room: int, *, on_device: bool) -> str:
    """The smallest change with which the estimate of a stage that asks the backbone is at most `room` bytes, in words. Of a GPU
    run `on_device` is its own memory, else what waits beside it."""
    setting = outlook.setting
    assert setting is not None

    def need(other: Config) -> int:
        memory = memory_of(stage, setting, other, outlook.prompts)
        return memory.peak if on_device else memory.host

    found = what_fits(config, stage, need, room)
    if found is None:
        return "no setting lowers it enough, choose a smaller backbone or a larger machine"
    leaves, taken = found
    return f"write {' '.join(f'{key}={str(value).lower()}' for key, value in leaves.items())}, which takes {told(taken)}"


def _disk_too_small(outlook: Outlook) -> str | None:
    if outlook.disk <= outlook.free_disk:
        return None
    return (
        f"the run would write about {told(outlook.disk)} and {told(outlook.free_disk)} of disk are free: make room, or write "
        "another paths.artifacts and paths.cache"
    )
