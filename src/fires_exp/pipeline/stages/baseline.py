"""Answers of a model behind a service, as predictions like any other policy's."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from fires_exp.baselines.few_shot_prompt import Shot, baseline_messages
from fires_exp.config.schema import BaselineConfig
from fires_exp.data.dataset import Dataset
from fires_exp.data.records import SupportExample
from fires_exp.data.video.frames import FrameReader
from fires_exp.errors import ConfigError, ServiceError, StageError
from fires_exp.pipeline.chat_models import rehearse, service
from fires_exp.pipeline.stages.predictions import PREDICTIONS, prediction_row
from fires_exp.pipeline.stages.thoughts import BANK, thoughts_for
from fires_exp.pipeline.workspace import Workspace
from fires_exp.prompts.templates import system_prompt
from fires_exp.services.asked_keys import Tally
from fires_exp.services.messages import Answer, Asker, Question, Refusal, asked_of
from fires_exp.storage.artifacts import Artifact, write_atomically
from fires_exp.storage.code_fingerprint import code_fingerprint
from fires_exp.thinking.bank import read_bank
from fires_exp.thinking.rule_teacher import annotate

BASELINE = "baseline"
REFUSED = "refused"


def make_baseline_predictions(work: Workspace) -> Artifact:
    """What the service answers to the test instances. A killed run goes on: answers are kept as they come. Raises `ServiceError`
    where the service refuses every single one, as it does with a setting that it does not know."""
    config, examples, drawn = work.config.baseline, work.test_examples, draw_shots(work)
    thoughts = thoughts_for(work, drawn) if drawn and work.plan.thinks else None
    depends_on = {
        "examples": work.identity(examples, work.test_dataset),
        "shots": [work.identity([shot], work.dataset) for shot in drawn],
        "thoughts": thoughts.key if thoughts else None,
        "frames": [asdict(work.config.frames), config.frames_in_shots],
        "aspects": asdict(work.config.aspects),
        "prompt": system_prompt(work.plan),
        "asked_of": asked_of(config),
        "code": code_fingerprint("pipeline.stages.baseline"),
    }

    def build(folder: Path) -> None:
        shots = _shots(work, drawn, _thoughts_of(drawn, thoughts))
        answers: dict[str, Answer | Refusal] = {}
        bar = tqdm(total=len(examples), desc="answering", unit="instance", disable=not work.config.trainer.progress)
        with bar:
            for question, answer in service(work, config, Tally(None))(_questions(work, shots)):
                answers[question.id] = answer
                bar.update()
        _check_answered(config, answers)
        rows = [_row(work, example, answers[example.id]) for example in examples]
        write_atomically(folder / PREDICTIONS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    return work.make("predictions", depends_on, build, together=False)


def rehearse_baseline(work: Workspace) -> str:
    """What answering would ask of the service, in words. For an estimate, the examples' thoughts are those by rules."""
    drawn = draw_shots(work)
    if work.config.baseline.dry_run:
        said = [annotate(example, work.plan).text if work.plan.thinks else "" for example in drawn]
    else:
        said = _thoughts_of(drawn, thoughts_for(work, drawn) if drawn and work.plan.thinks else None)
    shots = _shots(work, drawn, said)

    def ask(asker: Asker) -> None:
        for _ in asker(_questions(work, shots)):
            pass

    return rehearse(work, work.config.baseline, ask)


def draw_shots(work: Workspace) -> tuple[SupportExample, ...]:
    """A seeded draw from the train split; a larger one begins with the smaller. Raises `ConfigError` where train has too few."""
    count = work.config.baseline.shots
    if count == 0:
        return ()
    examples = list(work.examples("train"))
    if count > len(examples):
        raise ConfigError(f"baseline.shots={count}, but the train split has {len(examples)} instances; write a smaller number")
    random.Random(f"{work.config.seed}/shots").shuffle(examples)  # noqa: S311
    return tuple(examples[:count])


def _thoughts_of(drawn: Sequence[SupportExample], thoughts: Artifact | None) -> list[str]:
    if thoughts is None:
        return [""] * len(drawn)
    bank = read_bank(thoughts.folder / BANK)
    missing = [example.id for example in drawn if example.id not in bank]
    if missing:
        raise StageError(f"the teacher has no thought for {missing[0]}, a worked example; choose another seed or teacher")
    return [bank[example.id].thought.text for example in drawn]


def _questions(work: Workspace, shots: list[Shot]) -> Iterator[Question]:
    frames = _frames(work, work.test_dataset)
    for example in work.test_examples:
        yield Question(id=example.id, messages=baseline_messages(example, frames.frames_of(example), shots, work.plan))


def _shots(work: Workspace, drawn: Sequence[SupportExample], thoughts: Sequence[str]) -> list[Shot]:
    reader, shown = _frames(work, work.dataset), work.config.baseline.frames_in_shots
    return [
        Shot(example=example, frames=reader.frames_of(example) if shown else [[] for _ in example.history], thought=thought)
        for example, thought in zip(drawn, thoughts, strict=True)
    ]


def _frames(work: Workspace, dataset: Dataset) -> FrameReader:
    return FrameReader(work.config.frames, dataset.video_root, work.cache / "frames")


def _check_answered(config: BaselineConfig, answers: Mapping[str, Answer | Refusal]) -> None:
    refusals = [answer for answer in answers.values() if isinstance(answer, Refusal)]
    if refusals and len(refusals) == len(answers):
        raise ServiceError(
            f"{config.model} refuses all {len(refusals)} instances, the last: {refusals[-1].reason}; mend what it names in "
            f"{config.GROUP}.…, or in frames= for a model that reads no pictures"
        )


def _row(work: Workspace, example: SupportExample, answer: Answer | Refusal) -> dict[str, object]:
    """A model that refuses has said nothing, and is scored for it."""
    if isinstance(answer, Refusal):
        return {**prediction_row(work, example, "", REFUSED), "reasoning": "", "refusal": answer.reason}
    return {**prediction_row(work, example, answer.text, answer.finish_reason), "reasoning": answer.reasoning}
