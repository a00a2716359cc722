"""Few-shot prompts for a baseline behind a service: the system prompt of our own policies, worked examples as earlier turns of
the chat, then the instance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from fires_exp.data.records import SupportExample
from fires_exp.prompts.templates import history_parts, system_prompt
from fires_exp.services.messages import ChatMessage
from fires_exp.thinking.aspects import ThinkingPlan
from fires_exp.thinking.tags import render_completion

Frames = Sequence[Sequence[Image.Image]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shot:
    """A worked example: an instance, its frames (one list per history turn) and the thought before its reference response, empty
    for a plan without thinking."""

    example: SupportExample
    frames: Frames
    thought: str


def few_shot_messages(
    example: SupportExample, frames: Frames, shots: Sequence[Shot], plan: ThinkingPlan
) -> tuple[ChatMessage, ...]:
    """The chat whose next message is the completion."""
    messages = [ChatMessage(role="system", parts=(system_prompt(plan),))]
    for shot in shots:
        completion = render_completion(shot.thought, shot.example.reference_response, plan)
        messages += [_instance_message(shot.example, shot.frames), ChatMessage(role="assistant", parts=(completion,))]
    return (*messages, _instance_message(example, frames))


def _instance_message(example: SupportExample, frames: Frames) -> ChatMessage:
    return ChatMessage(role="user", parts=tuple(history_parts(example.history, frames)))
