"""Prompts for a teacher that reconstructs the thinking before a supporter's response (paper, 3.3 and Appendix A)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from PIL import Image

from fires_exp.data.records import SupportExample
from fires_exp.prompts.templates import history_parts
from fires_exp.services.messages import ChatMessage
from fires_exp.thinking.aspects import Aspect, ThinkingPlan
from fires_exp.thinking.demonstrations import DEMONSTRATIONS
from fires_exp.thinking.teacher_answer import NOT_HELPFUL, UNKNOWN

ROLE = "You reconstruct what an experienced supporter was thinking."
TASK = (
    "You are given an emotional support conversation up to some moment, frames of its video where there are any, and the "
    "response that the supporter then gave. Write down the thinking that came before this response"
)
WHAT_TO_WRITE = {
    Aspect.VISUAL_SCENE: "what the frames show that bears on the reply: faces, posture, gestures, surroundings",
    Aspect.EMOTION: "what the seeker feels, by words and by looks, in a few words; neutral if nothing stands out",
    Aspect.SITUATION: "what brought the emotion about; where the seeker is neutral, the problem that is being talked about",
    Aspect.RESPONSE_STRATEGY: 'what the response sets out to do and why, as "I should …"',
}
NO_LEAK = "The supporter has not spoken yet. Never quote, paraphrase or mention the response; name its intention only."
BRIEF = "At most one or two short sentences {each}. Plain text, nothing else: no greeting, no explanation, no markup."


def teacher_messages(
    example: SupportExample, frames: Sequence[Sequence[Image.Image]], plan: ThinkingPlan
) -> tuple[ChatMessage, ...]:
    """Instructions, the demonstrations as a chat, then the instance; `frames` has one list per history turn."""
    return (*_opening(plan), _instance_message(example, frames, "", plan))


def instructions(plan: ThinkingPlan) -> str:
    """The system message for a plan with thinking."""
    if plan.kind == "free":
        return "\n".join(
            [ROLE, f"{TASK}, as one short paragraph in the supporter's voice.", NO_LEAK, BRIEF.format(each="in all")]
        )
    strategy = f" {Aspect.RESPONSE_STRATEGY.label} is always written." if Aspect.RESPONSE_STRATEGY in plan.aspects else ""
    choice = (
        f"Write every line, whether it seems to help or not; {UNKNOWN} where nothing can be known."
        if plan.kind == "fixed"
        else f"An aspect helps if this response would have been another without it. Write {NOT_HELPFUL} for one that does not, "
        f"and {UNKNOWN} for one that would but cannot be known from what has been said and shown.{strategy}"
    )
    return "\n".join(
        [
            ROLE,
            f"{TASK}, one line an aspect, in this form and order:",
            *(f"{aspect.label}: <{WHAT_TO_WRITE[aspect]}>" for aspect in plan.aspects),
            choice,
            NO_LEAK,
            BRIEF.format(each="an aspect"),
        ]
    )


def retry_message(problem: str) -> ChatMessage:
    """The reply to a rejected answer."""
    return ChatMessage(role="user", parts=(f"{problem} Write the whole answer again.",))


def prompt_hash(plan: ThinkingPlan) -> str:
    """Twelve hex digits that depend on every prompt text except the instance."""
    text = "\x1f".join(str(part) for message in (*_opening(plan), retry_message("")) for part in message.parts)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _opening(plan: ThinkingPlan) -> list[ChatMessage]:
    messages = [ChatMessage(role="system", parts=(instructions(plan),))]
    for demonstration in DEMONSTRATIONS:
        no_frames: list[list[Image.Image]] = [[] for _ in demonstration.example.history]
        messages.append(_instance_message(demonstration.example, no_frames, demonstration.frames, plan))
        messages.append(ChatMessage(role="assistant", parts=(demonstration.answer(plan),)))
    return messages


def _instance_message(
    example: SupportExample, frames: Sequence[Sequence[Image.Image]], frame_description: str, plan: ThinkingPlan
) -> ChatMessage:
    parts: list[str | Image.Image] = ["Conversation:\n", *history_parts(example.history, frames)]
    if frame_description:
        parts.append(f"Last frame: {frame_description}\n")
    parts += [_label_hint(example, plan), f"The supporter's response: {example.reference_response}"]
    return ChatMessage(role="user", parts=tuple(part for part in parts if part))


def _label_hint(example: SupportExample, plan: ThinkingPlan) -> str:
    """The corpus's labels for the aspects of the plan; both labels for a free plan."""
    emotions = next((turn.emotions for turn in reversed(example.history) if turn.speaker == "seeker"), ())
    hints = {
        Aspect.EMOTION: ("the seeker's emotion", emotions),
        Aspect.RESPONSE_STRATEGY: ("strategy", example.target.strategies),
    }
    named_labels = [
        f"{name}: {', '.join(labels)}"
        for aspect, (name, labels) in hints.items()
        if labels and (aspect in plan.aspects or plan.kind == "free")
    ]
    return f"Annotators' labels, as a hint ({'; '.join(named_labels)})\n" if named_labels else ""
