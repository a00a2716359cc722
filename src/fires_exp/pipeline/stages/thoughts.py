"""Thoughts for the instances that are learned from: a bank on disk, and a list of those that no thought could be had for.

    thoughts.jsonl    one line a thought            set_aside.jsonl    one line an instance without: reason, answers

Answers of models are kept outside the artifact, in `answers/` (`service/ledger.py`), as they come: a run that was killed, a
larger draw, or other limits on leaks pay for what is new and for nothing else.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm import tqdm

from fires_exp.config.schema import SamplingConfig
from fires_exp.data.records import SupportExample
from fires_exp.data.video.frames import FrameReader
from fires_exp.errors import DataError, StageError
from fires_exp.pipeline.chat_models import Backbone, rehearse, service
from fires_exp.pipeline.workspace import Workspace
from fires_exp.policy.backbone import build_processor
from fires_exp.prompts.processor import encode_chat
from fires_exp.prompts.teacher import once_more, prompt_hash, teacher_messages
from fires_exp.services.asked_keys import Tally
from fires_exp.services.messages import Asker, ChatMessage, asked_of
from fires_exp.storage.artifacts import Artifact, write_atomically
from fires_exp.storage.code_fingerprint import code_fingerprint
from fires_exp.thinking.bank import BankedThought, write_bank
from fires_exp.thinking.synthesis import SetAside, Teacher, ask_teacher, synthesize
from fires_exp.thinking.teacher_answer import LeakLimits, read_thought

BANK = "thoughts.jsonl"
SET_ASIDE = "set_aside.jsonl"

log = logging.getLogger("fires_exp.pipeline")


def make_thoughts(work: Workspace) -> Artifact:
    """The bank of the instances of `teacher.splits`."""
    return thoughts_for(work, _examples(work))


def thoughts_for(work: Workspace, examples: Sequence[SupportExample]) -> Artifact:
    """A bank of these instances. Raises `StageError` where the teacher has not one thought that will do."""

    def build(folder: Path) -> None:
        found = list(_found(work, examples))
        thoughts = {banked.example_id: banked for banked in found if isinstance(banked, BankedThought)}
        without = sorted((one for one in found if isinstance(one, SetAside)), key=lambda one: one.example_id)
        lines = "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in without)
        write_atomically(folder / SET_ASIDE, lines)
        if without:
            log.warning(
                "%d of %d instances have no thought and are listed in %s, the first: %s",
                len(without),
                len(examples),
                folder / SET_ASIDE,
                without[0].reason,
            )
        if not thoughts:
            raise StageError(f"not one of {len(examples)} thoughts will do; {folder / SET_ASIDE} says what is wrong with each")
        write_bank(folder / BANK, [thoughts[example.id] for example in examples if example.id in thoughts])

    return work.make("thoughts", _depends_on(work, examples), build, together=False)


def rehearse_thoughts(work: Workspace) -> str:
    """What making the bank would ask of the teacher's service, in words."""
    examples = _examples(work)
    return rehearse(work, work.config.teacher, lambda ask: list(ask_teacher(_teacher(work), ask, examples)))


def _examples(work: Workspace) -> tuple[SupportExample, ...]:
    others = work.dataset.examples["val"] if "val" in work.config.teacher.splits else ()
    return (*work.examples("train"), *others)


def _depends_on(work: Workspace, examples: Sequence[SupportExample]) -> dict[str, Any]:
    """Rules are told apart by their code; a model's thoughts by what it is told and how its answers are read."""
    config = work.config.teacher
    facts: dict[str, Any] = {"teacher": config.name, "aspects": asdict(work.config.aspects)}
    if config.name == "annotations":
        return facts | {
            "examples": work.identity(examples, work.dataset),
            "code": code_fingerprint("pipeline.stages.thoughts"),
        }
    facts |= {
        "examples": work.identity(examples, work.dataset),
        "frames": asdict(work.config.frames),
        "prompt": prompt_hash(work.plan),
        "attempts": config.attempts,
        "leaks": asdict(_leaks(work)),
        "code": code_fingerprint("pipeline.stages.thoughts"),
    }
    if config.name == "openai":
        return facts | {"asked_of": asked_of(config)}
    return facts | {
        "backbone": asdict(work.config.backbone),
        "sampling": [config.temperature, config.max_tokens, config.max_prompt_tokens, work.config.seed, work.device.type],
        "model_code": code_fingerprint("pipeline.stages.thoughts"),
    }


def _found(work: Workspace, examples: Sequence[SupportExample]) -> Iterator[BankedThought | SetAside]:
    if work.config.teacher.name == "annotations":
        yield from synthesize(examples, work.plan)
        return
    bar = tqdm(total=len(examples), desc="thinking", unit="instance", disable=not work.config.trainer.progress)
    with bar:
        for one in ask_teacher(_teacher(work), _asker(work, examples), examples):
            bar.update()
            yield one


def _asker(work: Workspace, examples: Sequence[SupportExample]) -> Asker:
    config = work.config.teacher
    if config.name == "openai":
        return service(work, config, Tally(None))
    sampling = SamplingConfig(
        temperature=config.temperature or 0.0,
        top_p=1.0,
        max_new_tokens=config.max_tokens,
        engine=work.config.predict.decoding.engine,
    )
    by_id = {example.id: example for example in examples}
    return Backbone(work, work.config.backbone, sampling, config.in_flight, by_id).ask


def _teacher(work: Workspace) -> Teacher:
    config = work.config.teacher
    frames = FrameReader(work.config.frames, work.dataset.video_root, work.cache / "frames")
    leaks = _leaks(work)

    def first(example: SupportExample) -> tuple[ChatMessage, ...]:
        return teacher_messages(example, frames.frames_of(example), work.plan)

    return Teacher(
        name=config.name,
        plan=work.plan,
        prompt_hash=prompt_hash(work.plan),
        first=first if config.name == "openai" else _fitted(work, frames),
        read=lambda text, example: read_thought(text, work.plan, example, leaks),
        once_more=once_more,
        attempts=config.attempts,
    )


def _fitted(work: Workspace, frames: FrameReader) -> Callable[[SupportExample], tuple[ChatMessage, ...]]:
    """As `teacher_messages`, with the oldest turns dropped, each with its frames, until the backbone may read it."""
    processor = build_processor(work.config.backbone, work.cache)
    limit = work.config.teacher.max_prompt_tokens

    def first(example: SupportExample) -> tuple[ChatMessage, ...]:
        pictures: list[list[Image.Image]] = frames.frames_of(example)
        for dropped in range(len(example.history)):
            messages = teacher_messages(replace(example, history=example.history[dropped:]), pictures[dropped:], work.plan)
            if len(encode_chat(processor, example, messages).prompt_ids) <= limit:
                return messages
        raise DataError(
            f"{example.source or example.id}: the last turn of {example.id} with instructions and demonstrations is longer than "
            f"teacher.max_prompt_tokens={limit}; raise it, or lower frames.max_frames or frames.max_pixels"
        )

    return first


def _leaks(work: Workspace) -> LeakLimits:
    return LeakLimits(max_words=work.config.teacher.max_leaked_words, max_share=work.config.teacher.max_leaked_share)
