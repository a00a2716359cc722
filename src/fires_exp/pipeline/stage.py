"""What a step of a run is. Each is declared once, in a file of `pipeline/stages/`, and has one line in `config/stages.py`.

A subclass is a dataclass of exactly what the step reads: settings, instances, and the stages before it. Its classmethod
`plan(planner)` makes one from the configuration; preflight estimates it; the runner runs it; the report shows what it published.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from fires_exp.config.root import Config
from fires_exp.pipeline.preflight.memory import MemoryEstimate
from fires_exp.pipeline.preflight.sizes import Sizes
from fires_exp.pipeline.preflight.stage_estimate import StageEstimate
from fires_exp.storage.artifacts import Artifact, artifact_key, get_or_build, is_finished
from fires_exp.storage.code_fingerprint import NAME, code_fingerprint


class Step:
    """Something that a run does. `name` is for readers and for messages."""

    name: ClassVar[str]

    @property
    def label(self) -> str:
        """The name for readers, unique in a plan."""
        return self.name

    def check(self) -> None:
        """Raise now what would stop the run when it reaches this step, such as a missing key of a service."""

    @property
    def is_dry_run(self) -> bool:
        """Whether the step only describes the requests that it would send to a service. A run does nothing else then."""
        return False

    @property
    def dry_run_needs(self) -> tuple[Stage, ...]:
        """Stages that must be finished before `dry_run`."""
        return ()

    def dry_run(self) -> str:
        """The requests that the step would send, as text for the user. Only called where `is_dry_run`."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage(Step, ABC):
    """A step whose output is an artifact, reused by every run in which it would be the same.

    `artifacts` is the folder of all artifacts. `on_all_ranks`: whether all ranks build it together, or the main rank does.
    `memory_settings` are keys that lower its memory, those first that leave its result unchanged. `logs_steps`: whether its
    metrics.jsonl belongs into the run folder.
    """

    on_all_ranks: ClassVar[bool] = False
    memory_settings: ClassVar[tuple[str, ...]] = ()
    reads_frames: ClassVar[bool] = False
    logs_steps: ClassVar[bool] = False

    artifacts: Path

    @property
    def needs(self) -> tuple[Stage, ...]:
        """The stages whose artifacts it reads."""
        return ()

    @abstractmethod
    def key_inputs(self) -> dict[str, Any]:
        """Everything else that the artifact depends on, as JSON values; the code is added by the stage itself."""

    @abstractmethod
    def build(self, folder: Path) -> None:
        """Write the artifact into `folder`, continuing from what an interrupted call left there."""

    def publish(self, artifact: Artifact, run_folder: Path) -> None:
        """Copy into the run folder what readers want to see. Called on the main rank, also for a reused artifact."""

    def table_facts(self) -> dict[str, Any]:
        """What metrics.json says about predictions of this stage, beside their scores."""
        return {}

    def verify(self) -> None:
        """Raise where the finished artifact must not be used with this run's settings, although its key is the same."""

    def estimate(self, sizes: Sizes) -> StageEstimate | None:
        """Steps, tokens, memory and disk of what is left to do; None where nothing is known about it."""
        return None

    def memory(self, config: Config, sizes: Sizes) -> MemoryEstimate | None:
        """The memory that it takes under `config`, which may differ from this run's in `memory_settings`; None where the
        backbone is not used."""
        return None

    @cached_property
    def depends_on(self) -> Mapping[str, Any]:
        """What the key is a hash of."""
        module = type(self).__module__.removeprefix(f"{NAME}.")
        return {
            "inputs": self.key_inputs(),
            "needs": [[stage.name, stage.key] for stage in self.needs],
            "code": code_fingerprint(module),
        }

    @cached_property
    def key(self) -> str:
        """Sixteen hex digits."""
        return artifact_key(self.depends_on)

    @property
    def folder(self) -> Path:
        """Where the artifact lies, finished or not."""
        return self.artifacts / self.name / self.key

    @property
    def is_finished(self) -> bool:
        return is_finished(self.folder)

    def get(self) -> Artifact:
        """The artifact, built if necessary. A collective."""
        return get_or_build(self.artifacts, self.name, self.depends_on, self.build, on_all_ranks=self.on_all_ranks)


class Summary(Step, ABC):
    """A step that is not an artifact: it is computed anew in every run."""

    @abstractmethod
    def run(self, run_folder: Path) -> None:
        """Compute it and write it into the run folder. Called on the main rank."""
