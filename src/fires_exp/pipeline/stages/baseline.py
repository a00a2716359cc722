"""Predictions of a model behind a service, zero- or few-shot, in the form of any other policy's."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from tqdm import tqdm

from fires_exp.baselines.few_shot_prompt import Shot, few_shot_messages
from fires_exp.config.baselines import BaselineConfig
from fires_exp.data.instances import Instances
from fires_exp.data.records import SupportExample
from fires_exp.errors import ConfigError, ServiceError, StageError
from fires_exp.pipeline.chat_models import check_service, describe_requests, service
from fires_exp.pipeline.planner import Planner
from fires_exp.pipeline.stage import Stage
from fires_exp.pipeline.stages.predictions import PREDICTIONS, prediction_row, publish_predictions
from fires_exp.pipeline.stages.thoughts import BANK, ThoughtsStage
from fires_exp.policy.factory import PolicyFactory
from fires_exp.prompts.templates import system_prompt
from fires_exp.services.messages import ChatBackend, ChatRequest, ChatResponse, Refusal
from fires_exp.services.wire_format import response_settings
from fires_exp.storage.artifacts import Artifact
from fires_exp.storage.files import write_atomically
from fires_exp.thinking.bank import read_bank
from fires_exp.thinking.rule_teacher import thought_by_rules

REFUSED = "refused"


@dataclass(frozen=True, kw_only=True, eq=False)
class BaselineStage(Stage):
    """The service's completions for the instances of `test`, after the worked examples of `shots`. `thoughts` is None where the
    worked examples show none; a dry run takes those of the rules."""

    name: ClassVar[str] = "predictions"

    policy: str
    config: BaselineConfig
    test: Instances
    shots: Instances
    thoughts: ThoughtsStage | None
    factory: PolicyFactory
    progress: bool

    @classmethod
    def plan_policy(cls, planner: Planner, policy: str) -> Stage:
        config = planner.config.baseline
        shots = _draw_shots(planner)
        thoughts = None
        if len(shots) and planner.thinking.thinks and not config.dry_run:
            thoughts = planner.add(ThoughtsStage.of(planner, shots))
        return planner.add(
            cls(
                artifacts=planner.artifacts,
                policy=policy,
                config=config,
                test=planner.test,
                shots=shots,
                thoughts=thoughts,
                factory=planner.factory,
                progress=planner.config.trainer.progress,
            )
        )

    @property
    def label(self) -> str:
        return f"predictions of {self.policy}"

    @property
    def needs(self) -> tuple[Stage, ...]:
        return (self.thoughts,) if self.thoughts else ()

    def key_inputs(self) -> dict[str, Any]:
        with_frames = self.factory.frames.name != "none"
        return {
            "test": self.test.identity(with_frames),
            "shots": self.shots.identity(with_frames),
            "frames": [asdict(self.factory.frames), self.config.frames_in_shots],
            "plan": asdict(self.factory.plan),
            "prompt": system_prompt(self.factory.plan),
            "response_settings": response_settings(self.config),
        }

    def check(self) -> None:
        check_service(self.config)

    def build(self, folder: Path) -> None:
        """After a kill, answers that had arrived are not requested again. Raises `ServiceError` where the service refuses every
        instance, as it does for a setting that it does not know."""
        shots = self._shots()
        answers: dict[str, ChatResponse | Refusal] = {}
        with tqdm(total=len(self.test), desc="predicting", unit="instance", disable=not self.progress) as bar:
            for question, answer in service(self.artifacts, self.config, key_file=None)(self._questions(shots)):
                answers[question.id] = answer
                bar.update()
        _check_answered(self.config, answers)
        rows = [self._row(example, answers[example.id]) for example in self.test.examples]
        write_atomically(folder / PREDICTIONS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def publish(self, artifact: Artifact, run_folder: Path) -> None:
        publish_predictions(artifact, run_folder, self.policy)

    def table_facts(self) -> dict[str, Any]:
        return {"baseline": self.config.model, "shots": [example.id for example in self.shots.examples]}

    @property
    def is_dry_run(self) -> bool:
        return not self.config.sends

    @property
    def dry_run_needs(self) -> tuple[Stage, ...]:
        return self.needs

    def dry_run(self) -> str:
        shots = self._shots()

        def run(ask: ChatBackend) -> None:
            for _ in ask(self._questions(shots)):
                pass

        return describe_requests(self.artifacts, self.config, run)

    def _questions(self, shots: list[Shot]) -> Iterator[ChatRequest]:
        frames = self.factory.frame_reader(self.test.video_root)
        for example in self.test.examples:
            messages = few_shot_messages(example, frames.frames_of(example), shots, self.factory.plan)
            yield ChatRequest(id=example.id, messages=messages)

    def _shots(self) -> list[Shot]:
        """The worked examples. Raises `StageError` where the teacher has no thought for one."""
        reader, shows_frames = self.factory.frame_reader(self.shots.video_root), self.config.frames_in_shots
        return [
            Shot(
                example=example,
                frames=reader.frames_of(example) if shows_frames else [[] for _ in example.history],
                thought=thought,
            )
            for example, thought in zip(self.shots.examples, self._thoughts(), strict=True)
        ]

    def _thoughts(self) -> list[str]:
        plan, examples = self.factory.plan, self.shots.examples
        if self.thoughts is None:
            return [thought_by_rules(example, plan).text if plan.thinks else "" for example in examples]
        bank = read_bank(self.thoughts.folder / BANK)
        missing = [example.id for example in examples if example.id not in bank]
        if missing:
            raise StageError(f"the teacher has no thought for {missing[0]}, a worked example; choose another seed or teacher")
        return [bank[example.id].thought.text for example in examples]

    def _row(self, example: SupportExample, answer: ChatResponse | Refusal) -> dict[str, object]:
        """A refusal is an empty response, and is scored as one."""
        plan = self.factory.plan
        if isinstance(answer, Refusal):
            return {**prediction_row(plan, example, "", REFUSED), "reasoning": "", "refusal": answer.reason}
        return {**prediction_row(plan, example, answer.text, answer.finish_reason), "reasoning": answer.reasoning}


def _draw_shots(planner: Planner) -> Instances:
    """A seeded draw from the train split; a larger one begins with the smaller. Raises `ConfigError` where train has too few."""
    count = planner.config.baseline.shots
    if count == 0:
        return Instances(dataset=planner.config.dataset.name, split="shots", examples=(), video_root=None)
    train = planner.train
    if count > len(train):
        raise ConfigError(f"baseline.shots={count}, but the train split has {len(train)} instances; write a smaller number")
    examples = list(train.examples)
    random.Random(f"{planner.config.seed}/shots").shuffle(examples)  # noqa: S311
    return replace(train, split="shots", examples=tuple(examples[:count]))


def _check_answered(config: BaselineConfig, answers: Mapping[str, ChatResponse | Refusal]) -> None:
    refusals = [answer for answer in answers.values() if isinstance(answer, Refusal)]
    if refusals and len(refusals) == len(answers):
        raise ServiceError(
            f"{config.model} refuses all {len(refusals)} instances, the last: {refusals[-1].reason}; correct what it names in "
            f"{config.GROUP}.…, or write frames=none for a model without image input"
        )
