"""What a baseline behind a service is asked: the system prompt that our own policies get, worked examples as earlier turns of the
chat, then the instance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from fires_exp.data.records import SupportExample
from fires_exp.prompts.templates import system_prompt, told
from fires_exp.services.messages import ChatMessage
from fires_exp.thinking.aspects import ThinkingPlan
from fires_exp.thinking.tags import render_completion

Frames = Sequence[Sequence[Image.Image]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """A worked example: an instance, its frames (one list a history turn) and the thought before its reference response, empty
    where a plan does not think."""

    example: SupportExample
    frames: Frames
    thought: str


def baseline_messages(
    example: SupportExample, frames: Frames, shots: Sequence[Shot], plan: ThinkingPlan
) -> tuple[ChatMessage, ...]:
    """The chat whose next message is the completion."""
    messages = [ChatMessage(role="system", parts=(system_prompt(plan),))]
    for shot in shots:
        worked = render_completion(shot.thought, shot.example.reference_response, plan)
        messages += [_case(shot.example, shot.frames), ChatMessage(role="assistant", parts=(worked,))]
    return (*messages, _case(example, frames))


def _case(example: SupportExample, frames: Frames) -> ChatMessage:
    return ChatMessage(role="user", parts=tuple(told(example.history, frames)))
