"""What a vision-language model tells a trained baseline beforehand, as a stage: one JSON line an instance.

    hints.jsonl    {"id": instance, "hints": [one text a turn of its history, empty where nothing was parts]}

Responses are cached outside the artifact (`services/response_cache.py`): a run that was killed, a larger draw or another
baseline with the same question requests only what is new. A turn that stands in many histories is parts about
once.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image
from tqdm import tqdm

from fires_exp.baselines.interface import Hint
from fires_exp.config.baselines import HintsConfig
from fires_exp.data.instances import Instances
from fires_exp.data.readers.utterances import clean_text
from fires_exp.data.records import SupportExample, Utterance
from fires_exp.data.video.frames import FrameReader
from fires_exp.pipeline.chat_models import BackboneChat
from fires_exp.pipeline.planner import Planner
from fires_exp.pipeline.stage import Stage
from fires_exp.policy.factory import PolicyFactory
from fires_exp.prompts.processor import ImageChatProcessor, encode_chat
from fires_exp.prompts.templates import history_parts
from fires_exp.prompts.truncation import fit_history
from fires_exp.services.messages import ChatMessage, ChatRequest, ChatResponse
from fires_exp.storage.files import write_atomically

HINTS = "hints.jsonl"

log = logging.getLogger("fires_exp.pipeline")


@dataclass(frozen=True, kw_only=True, eq=False)
class HintsStage(Stage):
    """The hints of some instances. `factory` has the backbone that writes them."""

    name: ClassVar[str] = "hints"
    reads_frames: ClassVar[bool] = True

    hint: Hint
    config: HintsConfig
    instances: Instances
    factory: PolicyFactory
    seed: int
    progress: bool

    @classmethod
    def of(cls, planner: Planner, hint: Hint, instances: Instances) -> HintsStage:
        """The stage for some instances, added to the plan."""
        config = planner.config.hints
        return planner.add(
            cls(
                artifacts=planner.artifacts,
                hint=hint,
                config=config,
                instances=instances,
                factory=replace(planner.factory, backbone=config.backbone or planner.config.backbone),
                seed=planner.config.seed,
                progress=planner.config.trainer.progress,
            )
        )

    @property
    def label(self) -> str:
        return f"hints for {self.instances.split}"

    def key_inputs(self) -> dict[str, Any]:
        return {
            "hint": asdict(self.hint),
            "instances": self.instances.identity(with_frames=self.factory.frames.name != "none"),
            "frames": asdict(self.factory.frames),
            "backbone": asdict(self.factory.backbone),
            "sampling": [asdict(self.config.decoding), self.config.max_prompt_tokens, self.seed, self.factory.device.type],
        }

    def build(self, folder: Path) -> None:
        """Raises `DataError` where the last turn alone is longer than `hints.max_prompt_tokens`."""
        hint, config, examples = self.hint, self.config, self.instances.examples
        parts = {
            _key(hint, part): part
            for example in examples
            for part in (_turns(example) if hint.about == "turn" else [_without_clips(example)])
        }
        reader = self.factory.frame_reader(self.instances.video_root)
        ask = BackboneChat(
            factory=self.factory,
            sampling=config.decoding,
            batch_size=config.batch_size,
            examples=parts,
            seed=self.seed,
            artifacts=self.artifacts,
        ).ask
        answers: dict[str, str] = {}
        bar = tqdm(total=len(parts), desc="hints", unit="hint", disable=not self.progress)
        with bar:
            requests = _questions(hint, parts, reader, self.factory.processor(), config.max_prompt_tokens, bar)
            for question, answer in ask(requests):
                assert isinstance(answer, ChatResponse)
                answers[question.id] = clean_text(answer.text)
                bar.update()
        if not answers:
            log.warning("no turn has a frame, so there are no hints: the baseline is trained on text alone")
        rows = [{"id": example.id, "hints": _hints_of(hint, example, answers)} for example in examples]
        write_atomically(folder / HINTS, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_hints(folder: Path) -> dict[str, list[str]]:
    """By instance, one text a turn."""
    rows = [json.loads(line) for line in (folder / HINTS).read_text(encoding="utf-8").splitlines()]
    return {row["id"]: row["hints"] for row in rows}


def _turns(example: SupportExample) -> list[SupportExample]:
    """Each seeker turn that has a clip, as an instance whose history is that turn."""
    return [
        replace(example, id=f"{example.id}, turn {index + 1}", history=(turn,))
        for index, turn in enumerate(example.history)
        if _may_show(turn)
    ]


def _may_show(turn: Utterance) -> bool:
    return turn.speaker == "seeker" and turn.clip is not None


def _without_clips(example: SupportExample) -> SupportExample:
    """The history without its clips: it is parts about by text alone."""
    return replace(example, history=tuple(replace(turn, clip=None) for turn in example.history))


def _key(hint: Hint, part: SupportExample) -> str:
    turns = [[turn.speaker, turn.text, turn.clip and asdict(turn.clip)] for turn in part.history]
    return hashlib.sha256(json.dumps([hint.about, turns]).encode()).hexdigest()[:16]


def _hints_of(hint: Hint, example: SupportExample, answers: Mapping[str, str]) -> list[str]:
    if hint.about == "conversation":
        return [*[""] * (len(example.history) - 1), answers[_key(hint, _without_clips(example))]]
    by_turn = iter(_turns(example))
    return [answers.get(_key(hint, next(by_turn)), "") if _may_show(turn) else "" for turn in example.history]


def _questions(
    hint: Hint,
    parts: Mapping[str, SupportExample],
    reader: FrameReader,
    processor: ImageChatProcessor,
    max_tokens: int,
    bar: tqdm,
) -> Iterator[ChatRequest]:
    for key, part in parts.items():
        frames = reader.frames_of(part)
        if hint.about == "turn" and not any(frames):
            bar.update()
            continue
        yield ChatRequest(id=key, messages=_fitted(hint, part, frames, processor, max_tokens))


def _fitted(
    hint: Hint, part: SupportExample, frames: Sequence[Sequence[Image.Image]], processor: ImageChatProcessor, max_tokens: int
) -> tuple[ChatMessage, ...]:
    def render(dropped: int) -> tuple[tuple[ChatMessage, ...], int]:
        parts = (*history_parts(part.history[dropped:], frames[dropped:]), hint.question)
        messages = (ChatMessage(role="user", parts=parts),)
        return messages, len(encode_chat(processor, part, messages).prompt_ids)

    _, messages = fit_history(
        render,
        part,
        limit=max_tokens,
        limit_key="hints.max_prompt_tokens",
        lower_keys=("frames.max_frames_per_turn", "frames.max_pixels"),
    )
    return messages
