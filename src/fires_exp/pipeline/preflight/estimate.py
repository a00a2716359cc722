"""The estimate of a run: for each stage that is not finished its steps, tokens, memory and disk, beside what is free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from fires_exp.config.root import Config
from fires_exp.data.dataset import Dataset
from fires_exp.pipeline.preflight import resources
from fires_exp.pipeline.preflight.disk import frame_cache_bytes
from fires_exp.pipeline.preflight.sizes import Sizes
from fires_exp.pipeline.preflight.stage_estimate import StageEstimate
from fires_exp.pipeline.preflight.token_lengths import PIXELS_A_TOKEN, TokenLengths
from fires_exp.pipeline.stage import Stage
from fires_exp.policy.factory import PolicyFactory


@dataclass(frozen=True, kw_only=True, slots=True)
class RunEstimate:
    """`stages` by their labels. Bytes: `held` by this process already, `free` for `processes` on this machine together,
    `free_gpu` of the GPU (None on a CPU), `cache_disk` and `free_disk`. `lengths` by split."""

    stages: Mapping[str, StageEstimate]
    lengths: Mapping[str, TokenLengths]
    held: int
    free: int
    free_gpu: int | None
    processes: int
    cache_disk: int
    free_disk: int

    @property
    def disk(self) -> int:
        """Bytes that all stages write, and the cached frames."""
        return sum(stage.disk for stage in self.stages.values()) + self.cache_disk

    def as_json(self) -> dict[str, Any]:
        """For `run.json`."""
        facts = asdict(self)
        for stage, row in zip(self.stages.values(), facts["stages"].values(), strict=True):
            if stage.memory is not None:
                memory = stage.memory
                row["memory"] |= {"peak": memory.peak, "gaps": memory.gaps, "host": memory.host}
        return facts


def estimate_run(
    stages: Sequence[Stage], sizes: Sizes, config: Config, factory: PolicyFactory, datasets: Iterable[Dataset]
) -> RunEstimate:
    """The estimate of a run that has these stages left or finished. Raises what the stages would raise for data that does not
    fit them."""
    rows = {stage.label: _estimate(stage, sizes, config) for stage in stages}
    known = {label: row for label, row in rows.items() if row is not None}
    uses_backbone = any(row.memory is not None for row in known.values())
    largest = max((lengths.frame_tokens * PIXELS_A_TOKEN for lengths in sizes.lengths.values()), default=0)
    folders = [stage.artifacts for stage in stages] + [factory.cache]
    return RunEstimate(
        stages=known,
        lengths=dict(sizes.lengths),
        held=resources.held_memory(),
        free=resources.free_memory_here(),
        free_gpu=resources.free_gpu_memory(factory.device) if factory.device.type == "cuda" else None,
        processes=config.trainer.devices,
        cache_disk=frame_cache_bytes(factory.frames, datasets, largest) if uses_backbone else 0,
        free_disk=min(resources.free_disk(folder) for folder in folders),
    )


def _estimate(stage: Stage, sizes: Sizes, config: Config) -> StageEstimate | None:
    if stage.is_finished:
        return StageEstimate(finished=True)
    estimate = stage.estimate(sizes)
    return None if estimate is None else replace(estimate, memory=stage.memory(config, sizes))
