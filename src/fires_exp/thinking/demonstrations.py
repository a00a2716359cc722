"""Three demonstrations for a teacher, invented for this project. Each stresses other aspects (paper, 3.3), so that they teach no
fixed pattern: one the visual scene, one the situation, one little more than the strategy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fires_exp.data.records import SupportExample, Utterance
from fires_exp.thinking.aspects import Aspect, ThinkingPlan
from fires_exp.thinking.teacher_answer import NOT_HELPFUL, UNKNOWN
from fires_exp.thinking.thought import Thought


@dataclass(frozen=True, kw_only=True, slots=True)
class Demonstration:
    """An instance with its supporter's thought. `frames` describes its video in words; `aspects` has all four, of which the
    `helpful` ones belong in a flexible thought; `prose` is the thought without aspect names."""

    example: SupportExample
    frames: str
    aspects: Mapping[Aspect, str]
    helpful: frozenset[Aspect]
    prose: str

    def answer(self, plan: ThinkingPlan) -> str:
        """The answer of a teacher that follows the plan."""
        if plan.kind == "free":
            return Thought(prose=self.prose).text
        aspects = {
            aspect: self.aspects[aspect] if plan.kind == "fixed" or aspect in self.helpful else NOT_HELPFUL
            for aspect in plan.aspects
        }
        return Thought(aspects=aspects).text


def _example(
    name: str, turns: tuple[tuple[str, str], ...], emotions: tuple[str, ...], response: str, strategies: tuple[str, ...]
) -> SupportExample:
    history = [
        Utterance(speaker="seeker" if speaker == "seeker" else "supporter", text=text, emotions=())
        for speaker, text in turns[:-1]
    ]
    history.append(Utterance(speaker="seeker", text=turns[-1][1], emotions=emotions))
    target = Utterance(speaker="supporter", text=response, strategies=strategies)
    return SupportExample(id=name, split="train", history=tuple(history), target=target)


DEMONSTRATIONS = (
    Demonstration(
        example=_example(
            "the-interview",
            (
                ("supporter", "So the interview was yesterday. How did it go?"),
                ("seeker", "Fine. It went perfectly fine, they were very nice."),
            ),
            ("sadness",),
            "You say that, and yet you have hardly looked up since you sat down. What is it like to talk about yesterday?",
            ("interpretation", "open question"),
        ),
        frames="the seeker's shoulders droop; the eyes stay on the floor and the lips are pressed together",
        aspects={
            Aspect.VISUAL_SCENE: "The seeker sits with drooping shoulders, lips pressed together, and avoids eye contact.",
            Aspect.EMOTION: "sadness, held back",
            Aspect.SITUATION: UNKNOWN,
            Aspect.RESPONSE_STRATEGY: "I should point out gently how words and bearing differ, and invite the seeker to open up.",
        },
        helpful=frozenset({Aspect.VISUAL_SCENE, Aspect.EMOTION, Aspect.SITUATION, Aspect.RESPONSE_STRATEGY}),
        prose="The words are cheerful but the drooping shoulders and lowered eyes are not, so something sad is being held back. "
        "I do not know yet what it is. I should point out the contrast gently and leave room to open up.",
    ),
    Demonstration(
        example=_example(
            "the-brother",
            (
                ("seeker", "My brother asked me for money again, and this time I said no."),
                ("supporter", "That was new for you."),
                ("seeker", "Now he sleeps in his car, and my mother tells everybody whose fault that is."),
            ),
            ("depression",),
            "You drew one line, and you are being handed the bill for ten years of his choices. Those were never yours to pay.",
            ("interpretation",),
        ),
        frames="the seeker faces the camera, hands folded, hardly moving",
        aspects={
            Aspect.VISUAL_SCENE: "The seeker sits still with folded hands.",
            Aspect.EMOTION: "guilt",
            Aspect.SITUATION: "The seeker refused to lend money once more, the brother lost his place to stay, and the mother "
            "puts the blame on the seeker.",
            Aspect.RESPONSE_STRATEGY: "I should separate the seeker's own decision from what others are answerable for, and so "
            "ease the guilt.",
        },
        helpful=frozenset({Aspect.EMOTION, Aspect.SITUATION, Aspect.RESPONSE_STRATEGY}),
        prose="Having refused the brother once, the seeker is now blamed by the mother for where he ended up, and has begun to "
        "believe it. I should ease that guilt by separating one decision from what others are answerable for.",
    ),
    Demonstration(
        example=_example(
            "the-list",
            (
                ("supporter", "Would you write down three things that went well, each evening until we meet?"),
                ("seeker", "Sure, I can do that. Does it have to be on paper?"),
            ),
            ("neutral",),
            "Whatever is closest to your bed. Your phone will do, and two lines are plenty.",
            ("structuring the therapy",),
        ),
        frames="the seeker nods and reaches for a bag",
        aspects={
            Aspect.VISUAL_SCENE: "The seeker nods and reaches for a bag.",
            Aspect.EMOTION: "neutral",
            Aspect.SITUATION: "The seeker has agreed to an exercise and wants to know how to do it.",
            Aspect.RESPONSE_STRATEGY: "I should answer the practical question and keep the exercise easy to begin.",
        },
        helpful=frozenset({Aspect.RESPONSE_STRATEGY}),
        prose="This is a practical question about an exercise that the seeker has already accepted. I should answer it and keep "
        "the threshold low.",
    ),
)
