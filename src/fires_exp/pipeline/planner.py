"""From the configuration to the ordered list of a run's steps."""

from __future__ import annotations

import importlib
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from fires_exp.config.data import DatasetConfig
from fires_exp.config.root import Config
from fires_exp.config.stages import PREDICTIONS, STAGES, PolicyName
from fires_exp.data.dataset import Dataset, read_dataset
from fires_exp.data.instances import Instances
from fires_exp.data.readers.row_errors import BadRow
from fires_exp.data.records import Split
from fires_exp.distributed.device import select_device
from fires_exp.errors import ConfigError
from fires_exp.pipeline.run_folder import RunFolder
from fires_exp.pipeline.stage import Stage, Step
from fires_exp.policy.factory import PolicyFactory
from fires_exp.thinking.aspects import Aspect, ThinkingPlan
from fires_exp.training.fit import TrainingLoop

StepT = TypeVar("StepT", bound=Step)
StageT = TypeVar("StageT", bound=Stage)


class Plannable(Protocol):
    """A class that `config/stages.py` names for a stage of a recipe."""

    @classmethod
    def plan(cls, planner: Planner) -> None:
        """Add the step to the plan, and before it the stages that it needs. Raises `ConfigError` and `DataError` for what the
        step cannot work with."""


class PlansPredictions(Protocol):
    """A class that `config/stages.py` names for the predictions of a policy."""

    @classmethod
    def plan_policy(cls, planner: Planner, policy: str) -> Stage:
        """Add the stage that predicts the test split with a policy, and return it."""


class Planner:
    """Collects steps in order. Steps read from it when they are planned, never when they run.

    `adapters` are the stages whose adapters make up a trained policy, in the order in which they are merged.
    """

    def __init__(self, config: Config, folder: RunFolder) -> None:
        self.config = config
        self.folder = folder
        self.steps: list[Step] = []
        self.adapters: dict[str, tuple[Stage, ...]] = {"zero_shot": ()}
        self.artifacts = Path(config.paths.artifacts).expanduser().absolute()
        self.cache = Path(config.paths.cache).expanduser().absolute()
        self.thinking = ThinkingPlan(
            kind=config.aspects.plan,
            aspects=tuple(Aspect(name) for name in config.aspects.aspects),
        )
        self.device = select_device(config.trainer)
        self._instances: dict[tuple[int, str], Instances] = {}

    def add(self, step: StepT, *, first: bool = False) -> StepT:
        """Add a step at the end, or before all others. A stage whose artifact is planned already is not added twice: the one
        that is there is returned."""
        if isinstance(step, Stage):
            for planned in self.steps:
                if isinstance(planned, Stage) and planned.folder == step.folder:
                    return cast(StepT, planned)
        self.steps.insert(0 if first else len(self.steps), step)
        return step

    def find(self, kind: type[StageT]) -> StageT | None:
        """The stage of this class that was planned last."""
        return next((step for step in reversed(self.steps) if isinstance(step, kind)), None)

    def predictions(self, policy: str) -> Stage:
        """The stage that predicts the test split with a policy, added to the plan."""
        planned: PlansPredictions = _load(PREDICTIONS[PolicyName(policy)])
        return planned.plan_policy(self, policy)

    @property
    def stages(self) -> list[Stage]:
        """The steps that leave artifacts."""
        return [step for step in self.steps if isinstance(step, Stage)]

    @cached_property
    def factory(self) -> PolicyFactory:
        return PolicyFactory(
            backbone=self.config.backbone,
            frames=self.config.frames,
            prompt=self.config.prompt,
            plan=self.thinking,
            cache=self.cache,
            device=self.device,
        )

    @cached_property
    def loop(self) -> TrainingLoop:
        """Trains with the configured logger; the steps appear in the run folder."""
        return TrainingLoop(trainer=self.config.trainer, open_loggers=self.folder.open_loggers)

    @cached_property
    def auxiliary_loop(self) -> TrainingLoop:
        """Trains with the configured logger alone: for models that are not the policy."""
        return TrainingLoop(trainer=self.config.trainer, open_loggers=self.folder.open_configured_logger)

    @cached_property
    def dataset(self) -> Dataset:
        return read_dataset(self.config.dataset, self.config.seed, self.cache)

    @cached_property
    def test_dataset(self) -> Dataset:
        """The dataset of the predictions: the one that is trained on unless `test_dataset` names another."""
        if self.config.test_dataset is None:
            return self.dataset
        return read_dataset(self.config.test_dataset, self.config.seed, self.cache)

    @property
    def datasets_read(self) -> tuple[Dataset, ...]:
        """The datasets that planning has read so far."""
        return tuple(self.__dict__[name] for name in ("dataset", "test_dataset") if name in self.__dict__)

    @property
    def bad_rows(self) -> tuple[BadRow, ...]:
        """Rows that were left out of the datasets read so far."""
        unique = {id(dataset): dataset for dataset in self.datasets_read}
        return tuple(row for dataset in unique.values() for row in dataset.bad_rows)

    @property
    def train(self) -> Instances:
        """Raises `ConfigError` where the split is empty."""
        return self._not_empty(self.dataset, self.config.dataset, "train")

    @property
    def val(self) -> Instances:
        """The validation split, possibly empty."""
        return self._split(self.dataset, "val")

    @property
    def test(self) -> Instances:
        """The split that is predicted. Raises `ConfigError` where it is empty."""
        split: Split = self.config.predict.split.value
        return self._not_empty(self.test_dataset, self.config.test_dataset or self.config.dataset, split)

    def _not_empty(self, dataset: Dataset, config: DatasetConfig, split: Split) -> Instances:
        instances = self._split(dataset, split)
        if not len(instances):
            raise ConfigError(
                f"dataset={config.name} has no {split} split; choose another with predict.split=, or another dataset to train on"
            )
        return instances

    def _split(self, dataset: Dataset, split: Split) -> Instances:
        """One object a split, so that its hash is computed once."""
        key = (id(dataset), split)
        if key not in self._instances:
            self._instances[key] = Instances(
                dataset=dataset.name, split=split, examples=dataset.examples[split], video_root=dataset.video_root
            )
        return self._instances[key]


def make_plan(config: Config, folder: RunFolder) -> Planner:
    """Plan the stages of the configured recipe. Raises `ConfigError` and `DataError` for what a stage cannot work with."""
    planner = Planner(config, folder)
    for name in config.recipe.stages:
        planned: Plannable = _load(STAGES[name])
        planned.plan(planner)
    return planner


def _load(path: str) -> Any:
    """The class at "module:Class"."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)
