"""The records that cross folder borders: a clip, a turn, a conversation, and an instance with its target response.

The roles are `seeker` and `supporter`, whatever names the corpus uses. All records are frozen; none holds pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["seeker", "supporter"]
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A span of a video. `video` is relative to the video root.

    >>> Clip(video="S01E01.mp4", start_seconds=54.097, end_seconds=55.113).duration_seconds
    1.016
    """

    video: str
    start_seconds: float
    end_seconds: float

    @property
    def duration_seconds(self) -> float:
        return round(self.end_seconds - self.start_seconds, 3)


@dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """A turn: consecutive utterances of one speaker, joined with a space.

    >>> Utterance(speaker="seeker", text="I told you.", emotions=("sadness",))
    Utterance(speaker='seeker', text='I told you.', emotions=('sadness',), strategies=(), clip=None)
    """

    speaker: Role
    text: str
    emotions: tuple[str, ...] = ()
    strategies: tuple[str, ...] = ()
    clip: Clip | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation:
    """A conversation with its turns in order.

    `notes` maps the index of a turn to the corpus's own thoughts before that turn (aspect key -> text); most corpora have none.
    `source` is file and lines, for messages: `MESC.csv:2-31`.

    >>> turns = (Utterance(speaker="seeker", text="I told you."), Utterance(speaker="supporter", text="Told me what?"))
    >>> conversation = Conversation(id="mesc-0", split="train", turns=turns, source="MESC.csv:2-3")
    >>> [example.id for example in support_examples(conversation)]
    ['mesc-0-1']
    """

    id: str
    split: Split
    turns: tuple[Utterance, ...]
    notes: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    source: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class SupportExample:
    """An instance: the history `C = {U_1 … U_{t-1}}` and the supporter turn `R_t` that follows it (paper, section 3.1).

    `target` is the reference turn with its labels; a model never sees its clip. `id` is unique in a dataset.

    >>> example = SupportExample(
    ...     id="mesc-0-1", split="train", source="MESC.csv:3",
    ...     history=(Utterance(speaker="seeker", text="I told you."),),
    ...     target=Utterance(speaker="supporter", text="Told me what?", strategies=("open question",)))
    >>> example.reference_response
    'Told me what?'
    """

    id: str
    split: Split
    history: tuple[Utterance, ...]
    target: Utterance
    notes: Mapping[str, str] = field(default_factory=dict)
    source: str = ""

    @property
    def reference_response(self) -> str:
        return self.target.text

    @property
    def last_seeker_text(self) -> str:
        """The text of the last seeker turn in the history; empty if there is none."""
        return next((turn.text for turn in reversed(self.history) if turn.speaker == "seeker"), "")


def support_examples(conversation: Conversation) -> list[SupportExample]:
    """An instance for each supporter turn that has an earlier turn, with all earlier turns as its history."""
    return [
        SupportExample(
            id=f"{conversation.id}-{index}",
            split=conversation.split,
            history=conversation.turns[:index],
            target=turn,
            notes=conversation.notes.get(index, {}),
            source=conversation.source,
        )
        for index, turn in enumerate(conversation.turns)
        if turn.speaker == "supporter" and index > 0
    ]
