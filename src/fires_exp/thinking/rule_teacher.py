"""The teacher without a model: rules that write thoughts from the corpus's labels, notes and text.

It is the offline substitute for a multimodal teacher, and every thought names it (`teacher: rules`). Its
flexible thoughts leave out an aspect that neither a note nor a label supports.

- Visual Scene: the corpus's note; frames are not used
- Emotion: the note, else the labels of the last seeker turn; left out if neutral is the only one
- Situation: the note, else the longest sentence of the last three seeker turns, quoted; "Unknown" where it is too short
- Response Strategy: the note, else one sentence for the strategy labels of the reference turn; never left out
"""

from __future__ import annotations

import hashlib
import inspect
import re
import sys

from fires_exp.data.records import SupportExample
from fires_exp.thinking.aspects import Aspect, ThinkingPlan
from fires_exp.thinking.thought import Thought

TEACHER = "rules"
MIN_SITUATION_WORDS = 6
MAX_QUOTED_WORDS = 24
SITUATION_TURNS = 3

GOALS = {
    "open question": "ask an open question so that the seeker can say more",
    "restatement": "say back what I heard, so that the seeker feels understood",
    "interpretation": "offer a careful interpretation of what may lie behind the words",
    "self-disclosure": "share my own view or reaction honestly",
    "approval": "affirm the seeker and what they have done",
    "communication skills": "keep the exchange going and show that I am listening",
    "advisement": "give a piece of advice that the seeker can act on",
    "structuring the therapy": "make clear what we are doing here and how we go on",
    "guiding the pace and depth of the conversation": "guide how fast and how deep we go",
}


def thought_by_rules(example: SupportExample, plan: ThinkingPlan) -> Thought:
    """The thought that the rules write for an instance.

    A fixed plan names each of its aspects: one without support is "Unknown", an emotion without a label "neutral". A free plan
    gives the same content as prose without aspect names.
    """
    if plan.kind == "free":
        return Thought(prose=_prose(_aspects_of(example)))
    aspects = _aspects_of(example)
    if plan.kind == "fixed":
        unsupported = {Aspect.EMOTION: "neutral"}
        return Thought(aspects={aspect: aspects.get(aspect) or unsupported.get(aspect, "Unknown") for aspect in plan.aspects})
    return Thought(aspects={aspect: aspects[aspect] for aspect in plan.aspects if aspect in aspects})


def rules_hash() -> str:
    """Twelve hex digits that depend on the source of this module."""
    return hashlib.sha256(inspect.getsource(sys.modules[__name__]).encode()).hexdigest()[:12]


def _aspects_of(example: SupportExample) -> dict[Aspect, str]:
    if example.notes:
        return {aspect: example.notes[aspect.value] for aspect in Aspect if example.notes.get(aspect.value)}
    supported = {
        Aspect.EMOTION: _emotion(example),
        Aspect.SITUATION: _situation(example),
        Aspect.RESPONSE_STRATEGY: _strategy(example),
    }
    return {aspect: text for aspect, text in supported.items() if text}


def _emotion(example: SupportExample) -> str:
    labels = next((turn.emotions for turn in reversed(example.history) if turn.speaker == "seeker"), ())
    return ", ".join(label for label in labels if label != "neutral")


def _situation(example: SupportExample) -> str:
    turns = [turn.text for turn in example.history if turn.speaker == "seeker"][-SITUATION_TURNS:]
    sentences = [sentence for text in turns for sentence in re.split(r"(?<=[.!?])\s+", text)]
    longest = max(sentences, key=lambda sentence: len(sentence.split()), default="")
    words = longest.split()
    if len(words) < MIN_SITUATION_WORDS:
        return "Unknown"
    quoted = " ".join(words[:MAX_QUOTED_WORDS]) + ("…" if len(words) > MAX_QUOTED_WORDS else "")
    return f'The seeker says: "{quoted}"'


def _strategy(example: SupportExample) -> str:
    goals = [GOALS[label] for label in example.target.strategies if label in GOALS]
    return f"I should {' and '.join(goals[:2]) or 'respond in a supportive way'}."


def _prose(aspects: dict[Aspect, str]) -> str:
    def sentence(text: str) -> str:
        return text if text.endswith((".", "!", "?", '"')) else text + "."

    texts = dict(aspects)
    if texts.get(Aspect.SITUATION, "").lower().strip(".") == "unknown":
        texts[Aspect.SITUATION] = "I do not know yet what has happened"
    if Aspect.EMOTION in texts:
        texts[Aspect.EMOTION] = f"The seeker seems to feel {texts[Aspect.EMOTION]}"
    return " ".join(sentence(texts[aspect]) for aspect in Aspect if aspect in texts)
