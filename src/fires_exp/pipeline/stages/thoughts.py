"""Thoughts for the instances that are learned from: a bank on disk, and a list of those that no thought could be had for.

    thoughts.jsonl    one line a thought            set_aside.jsonl    one line an instance without: reason, answers

Responses are cached outside the artifact (`services/response_cache.py`): a run that was killed, a larger draw, or other limits
on leaks pay only for what is new.
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
from fires_exp.errors import StageError
from fires_exp.pipeline.chat_models import Backbone, dry_run, service
from fires_exp.pipeline.workspace import Workspace
from fires_exp.policy.backbone import build_processor
from fires_exp.prompts.processor import encode_chat
from fires_exp.prompts.teacher import prompt_hash, retry_message, teacher_messages
from fires_exp.prompts.truncation import fit_history
from fires_exp.services.messages import ChatBackend, ChatMessage
from fires_exp.services.wire_format import response_settings
from fires_exp.storage.artifacts import Artifact, write_atomically
from fires_exp.storage.code_fingerprint import code_fingerprint
from fires_exp.thinking.bank import BankedThought, write_bank
from fires_exp.thinking.synthesis import SetAside, Teacher, thoughts_by_model, thoughts_by_rules
from fires_exp.thinking.teacher_answer import LeakLimits, parse_teacher_answer

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


def dry_run_thoughts(work: Workspace) -> str:
    """What making the bank would ask of the teacher's service, in words."""
    examples = _examples(work)
    return dry_run(work, work.config.teacher, lambda backend: list(thoughts_by_model(_teacher(work), backend, examples)))


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
        return facts | {"response_settings": response_settings(config)}
    return facts | {
        "backbone": asdict(work.config.backbone),
        "sampling": [config.temperature, config.max_tokens, config.max_prompt_tokens, work.config.seed, work.device.type],
        "model_code": code_fingerprint("pipeline.stages.thoughts"),
    }


def _found(work: Workspace, examples: Sequence[SupportExample]) -> Iterator[BankedThought | SetAside]:
    if work.config.teacher.name == "annotations":
        yield from thoughts_by_rules(examples, work.plan)
        return
    bar = tqdm(total=len(examples), desc="thinking", unit="instance", disable=not work.config.trainer.progress)
    with bar:
        for one in thoughts_by_model(_teacher(work), _backend(work, examples), examples):
            bar.update()
            yield one


def _backend(work: Workspace, examples: Sequence[SupportExample]) -> ChatBackend:
    config = work.config.teacher
    if config.name == "openai":
        return service(work, config, key_file=None)
    sampling = SamplingConfig(
        temperature=config.temperature or 0.0,
        top_p=1.0,
        max_new_tokens=config.max_tokens,
        engine=work.config.predict.decoding.engine,
    )
    by_id = {example.id: example for example in examples}
    return Backbone(work, work.config.backbone, sampling, config.in_flight, by_id).complete


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
        messages=first if config.name == "openai" else _fitted(work, frames),
        parse=lambda text, example: parse_teacher_answer(text, work.plan, example, leaks),
        retry_message=retry_message,
        attempts=config.attempts,
    )


def _fitted(work: Workspace, frames: FrameReader) -> Callable[[SupportExample], tuple[ChatMessage, ...]]:
    """As `teacher_messages`, with the oldest turns dropped, each with its frames, until the backbone may read it."""
    processor = build_processor(work.config.backbone, work.cache)

    def first(example: SupportExample) -> tuple[ChatMessage, ...]:
        images: list[list[Image.Image]] = frames.frames_of(example)

        def render(dropped: int) -> tuple[tuple[ChatMessage, ...], int]:
            messages = teacher_messages(replace(example, history=example.history[dropped:]), images[dropped:], work.plan)
            return messages, len(encode_chat(processor, example, messages).prompt_ids)

        _, messages = fit_history(
            render,
            example,
            limit=work.config.teacher.max_prompt_tokens,
            limit_key="teacher.max_prompt_tokens",
            lower_keys=("frames.max_frames", "frames.max_pixels"),
        )
        return messages

    return first


def _leaks(work: Workspace) -> LeakLimits:
    return LeakLimits(max_words=work.config.teacher.max_leaked_words, max_share=work.config.teacher.max_leaked_share)
