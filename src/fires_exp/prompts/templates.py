"""Prompts of the policies: a system prompt for each plan, and the conversation as one user message.

The paper's system prompt requests thinking and a response in general words (3.4.1). Ours also names the plan's aspects and the
format, since "w/o <aspect>" removes an aspect from the prompt too (`docs/implementation.md`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from fires_exp.data.records import Role, Utterance
from fires_exp.thinking.aspects import Aspect, ThinkingPlan

SPEAKER_NAMES: Mapping[Role, str] = {"seeker": "Seeker", "supporter": "Supporter"}

ASPECT_MEANINGS: Mapping[Aspect, str] = {
    Aspect.VISUAL_SCENE: "faces and behaviour in the frames",
    Aspect.EMOTION: "what the seeker feels",
    Aspect.SITUATION: "the cause or the problem, or Unknown",
    Aspect.RESPONSE_STRATEGY: "what the reply should do",
}

ROLE = "You are the supporter in an emotional support conversation. Give the supporter's next reply."


def system_prompt(plan: ThinkingPlan) -> str:
    """The instructions for a plan."""
    if not plan.thinks:
        return f"{ROLE} Write the reply only."
    form = "<think>\n…\n</think>\n<response>…</response>"
    if plan.kind == "free":
        return f"{ROLE} Think first, then reply. Write exactly:\n{form}"
    choice = "each of these aspects" if plan.kind == "fixed" else "those of these aspects that help"
    aspects = "\n".join(f"{aspect.label}: {ASPECT_MEANINGS[aspect]}" for aspect in plan.aspects)
    return f"{ROLE} Think first about {choice}, then reply.\n{aspects}\nWrite exactly:\n{form}"


def history_parts(history: Sequence[Utterance], frames: Sequence[Sequence[Image.Image]]) -> list[str | Image.Image]:
    """A history as message parts: one line per turn, after the turn's frames; `frames` has one list per turn."""
    parts: list[str | Image.Image] = []
    for turn, images in zip(history, frames, strict=True):
        parts += [*images, f"{SPEAKER_NAMES[turn.speaker]}: {turn.text}\n"]
    return parts


def chat_messages(history: Sequence[Utterance], frame_counts: Sequence[int], plan: ThinkingPlan) -> list[dict[str, Any]]:
    """System and user message in the chat format of transformers; a turn's images precede its text.

    `frame_counts` has one entry per turn.
    """
    parts: list[dict[str, str]] = []
    for turn, frame_count in zip(history, frame_counts, strict=True):
        parts.extend({"type": "image"} for _ in range(frame_count))
        parts.append({"type": "text", "text": f"{SPEAKER_NAMES[turn.speaker]}: {turn.text}\n"})
    parts[-1]["text"] = parts[-1]["text"].rstrip("\n")
    return [
        {"role": "system", "content": [{"type": "text", "text": system_prompt(plan)}]},
        {"role": "user", "content": parts},
    ]
