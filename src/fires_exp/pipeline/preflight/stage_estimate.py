"""The work that is left of one stage."""

from __future__ import annotations

from dataclasses import dataclass

from fires_exp.config.training import GrpoConfig, SftConfig
from fires_exp.pipeline.preflight.memory import MemoryEstimate


@dataclass(frozen=True, kw_only=True, slots=True)
class StageEstimate:
    """The work that is left of a stage, counts of 0 where it is finished or unknown; `steps_done` are in its checkpoint.

    `completion_tokens` is an upper bound. `memory` is None where the backbone is not used. `disk` is in bytes.
    """

    steps: int = 0
    steps_done: int = 0
    prompts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    memory: MemoryEstimate | None = None
    disk: int = 0
    finished: bool = False


def steps_left(training: SftConfig | GrpoConfig, count: int, done: int) -> tuple[int, int]:
    """Steps of `training_plan` after the first `done`, and how many instances they hold."""
    steps_per_epoch = -(-count // training.batch_size)
    steps = min(training.epochs * steps_per_epoch, training.max_steps or training.epochs * steps_per_epoch)

    def instances(first_steps: int) -> int:
        epochs, rest = divmod(first_steps, steps_per_epoch)
        return epochs * count + min(count, rest * training.batch_size)

    return steps - done, instances(steps) - instances(done)
