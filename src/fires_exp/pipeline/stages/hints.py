"""What a vision-language model tells a trained baseline beforehand, as a stage: one JSON line an instance.

    hints.jsonl    {"id": instance, "hints": [one text a turn of its history, empty where nothing was asked]}

Answers are kept outside the artifact, in `answers/` (`service/ledger.py`), as they come: a run that was killed, a larger draw
or another baseline with the same question asks what is new and nothing else. A turn that stands in many histories is asked about
once.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from tqdm import tqdm

from fires_exp.baselines.interface import Hint
from fires_exp.config.schema import BackboneConfig
from fires_exp.data.dataset import Dataset
from fires_exp.data.readers.utterances import clean_text
from fires_exp.data.records import SupportExample, Utterance
from fires_exp.data.video.frames import FrameReader
from fires_exp.errors import DataError
from fires_exp.pipeline.chat_models import Backbone
from fires_exp.pipeline.workspace import Workspace
from fires_exp.policy.backbone import build_processor
from fires_exp.prompts.processor import ImageChatProcessor, encode_chat
from fires_exp.prompts.templates import told
from fires_exp.services.messages import Answer, ChatMessage, Question
from fires_exp.storage.artifacts import Artifact, write_atomically
from fires_exp.storage.code_fingerprint import code_fingerprint

HINTS = "hints.jsonl"

log = logging.getLogger("fires_exp.pipeline")


def make_hints(work: Workspace, hint: Hint, dataset: Dataset, examples: Sequence[SupportExample]) -> Artifact:
    """The hints of these instances. Raises `DataError` where the last turn alone is longer than `hints.max_prompt_tokens`."""
    config, backbone = work.config.hints, hints_backbone(work)
    depends_on = {
        "hint": asdict(hint),
        "examples": work.identity(examples, dataset),
        "frames": asdict(work.config.frames),
        "backbone": asdict(backbone),
        "asked": [asdict(config.decoding), config.max_prompt_tokens, work.config.seed, work.device.type],
        "code": code_fingerprint("pipeline.stages.hints"),
    }

    def build(folder: Path) -> None:
        asked = {
            _key(hint, part): part
            for example in examples
            for part in (_turns(example) if hint.about == "turn" else [_told_about(example)])
        }
        reader = FrameReader(work.config.frames, dataset.video_root, work.cache / "frames")
        processor = build_processor(backbone, work.cache)
        ask = Backbone(work, backbone, config.decoding, config.batch_size, asked).ask
        answers: dict[str, str] = {}
        bar = tqdm(total=len(asked), desc="hints", unit="hint", disable=not work.config.trainer.progress)
        with bar:
            for question, answer in ask(_questions(hint, asked, reader, processor, config.max_prompt_tokens, bar)):
                assert isinstance(answer, Answer)
                answers[question.id] = clean_text(answer.text)
                bar.update()
        if not answers:
            log.warning("no turn shows a frame, so no model was asked about any: %s is trained by text alone", work.config.name)
        rows = [{"id": example.id, "hints": _hints_of(hint, example, answers)} for example in examples]
        write_atomically(folder / HINTS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    return work.make("hints", depends_on, build, together=False)


def hints_backbone(work: Workspace) -> BackboneConfig:
    """The model that is asked."""
    return work.config.hints.backbone or work.config.backbone


def read_hints(folder: Path) -> dict[str, list[str]]:
    """By instance, one text a turn."""
    rows = [json.loads(line) for line in (folder / HINTS).read_text(encoding="utf-8").splitlines()]
    return {row["id"]: row["hints"] for row in rows}


def _turns(example: SupportExample) -> list[SupportExample]:
    """Each seeker turn that has a clip, as an instance whose history is that turn."""
    return [
        replace(example, id=f"{example.id}, turn {place + 1}", history=(turn,))
        for place, turn in enumerate(example.history)
        if _may_show(turn)
    ]


def _may_show(turn: Utterance) -> bool:
    return turn.speaker == "seeker" and turn.clip is not None


def _told_about(example: SupportExample) -> SupportExample:
    """The history without its clips: it is asked about by text alone."""
    return replace(example, history=tuple(replace(turn, clip=None) for turn in example.history))


def _key(hint: Hint, part: SupportExample) -> str:
    turns = [[turn.speaker, turn.text, turn.clip and asdict(turn.clip)] for turn in part.history]
    return hashlib.sha256(json.dumps([hint.about, turns]).encode()).hexdigest()[:16]


def _hints_of(hint: Hint, example: SupportExample, answers: Mapping[str, str]) -> list[str]:
    if hint.about == "conversation":
        return [*[""] * (len(example.history) - 1), answers[_key(hint, _told_about(example))]]
    by_turn = iter(_turns(example))
    return [answers.get(_key(hint, next(by_turn)), "") if _may_show(turn) else "" for turn in example.history]


def _questions(
    hint: Hint,
    asked: Mapping[str, SupportExample],
    reader: FrameReader,
    processor: ImageChatProcessor,
    max_tokens: int,
    bar: tqdm,
) -> Iterator[Question]:
    for key, part in asked.items():
        frames = reader.frames_of(part)
        if hint.about == "turn" and not any(frames):
            bar.update()
            continue
        for dropped in range(len(part.history)):
            parts = (*told(part.history[dropped:], frames[dropped:]), hint.question)
            messages = (ChatMessage(role="user", parts=parts),)
            if len(encode_chat(processor, part, messages).prompt_ids) <= max_tokens:
                yield Question(id=key, messages=messages)
                break
        else:
            raise DataError(
                f"{part.source or part.id}: the last turn of {part.id} and the question about it are longer than "
                f"hints.max_prompt_tokens={max_tokens}; raise it, or lower frames.max_frames_per_turn or frames.max_pixels"
            )
