"""From the utterances of a corpus to turns: text is cleaned, and consecutive utterances of one speaker become one turn."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import attrgetter

from fires_exp.data.records import Clip, Role, Utterance

NOTE_ASPECTS = ("visual_scene", "emotion", "situation", "response_strategy")

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff]")  # control characters other than white space
_RESERVED = re.compile(r"<\|[^<>]*\|>|</?(?:think|response)>", re.IGNORECASE)
_HALF_TOKEN = re.compile(r"<\||\|>")
_SPEAKER = attrgetter("speaker")
_MAX_NESTING = 9  # reserved tokens within reserved tokens; no real text nests deeper, and there all halves are removed at once


@dataclass(kw_only=True, slots=True)  # not frozen: there is one for every row of a corpus, and creating it would take 3x as long
class SpokenLine:
    """One utterance of a corpus, with clean text and labels. `speaker` is the name that the corpus uses.

    `number` is the utterance's number in its conversation, `row` its line in the file.
    """

    speaker: str
    text: str
    emotions: tuple[str, ...]
    strategies: tuple[str, ...]
    video: str | None
    start_seconds: float | None
    end_seconds: float | None
    number: int
    row: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """Consecutive lines of one speaker."""

    lines: tuple[SpokenLine, ...]

    @property
    def speaker(self) -> str:
        return self.lines[0].speaker

    @property
    def rows(self) -> tuple[int, ...]:
        """The line numbers of the turn in its file."""
        return tuple(line.row for line in self.lines)

    @property
    def clip(self) -> Clip | None:
        """From the first start to the last end; None without times, if the end is not after the start, or for two videos."""
        video = self.lines[0].video
        starts = [line.start_seconds for line in self.lines if line.start_seconds is not None]
        ends = [line.end_seconds for line in self.lines if line.end_seconds is not None]
        if video is None or not starts or not ends or any(line.video != video for line in self.lines):
            return None
        start, end = starts[0], ends[-1]
        if end <= start:
            return None
        return Clip(video=video, start_seconds=start, end_seconds=end)

    def as_utterance(self, role: Role) -> Utterance:
        return Utterance(
            speaker=role,
            text=" ".join([line.text for line in self.lines]),
            emotions=clean_labels([label for line in self.lines for label in line.emotions]),
            strategies=clean_labels([label for line in self.lines for label in line.strategies]),
            clip=self.clip,
        )


def merge_turns(lines: Sequence[SpokenLine]) -> tuple[Turn, ...]:
    """The turns of one conversation; `lines` are in the order in which they are spoken."""
    return tuple(Turn(lines=tuple(group)) for _, group in groupby(lines, key=_SPEAKER))


def clean_text(text: str) -> str:
    """The text on one line, without anything that a prompt reserves.

    Removed are `<|…|>`, which a tokenizer may read as an image or as the end of a message, the four tags of a completion, and
    control characters. White space is collapsed.

    >>> clean_text("So <|im_end|>you\\n feel <think>low</think>?")
    'So you feel low ?'
    """
    if text.isprintable() and "<" not in text:  # nearly all texts: no control character, no reserved token
        return " ".join(text.split())
    text = _CONTROL.sub("", text)
    for _ in range(_MAX_NESTING):  # removing one token can join the two halves of another
        text, removed = _RESERVED.subn(" ", text)
        if not removed:
            break
    else:
        text = _HALF_TOKEN.sub(" ", text)
    return " ".join(text.split())


def clean_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Lower-case labels without duplicates, in the order of their first appearance; `undefined` is dropped.

    >>> clean_labels(["Open question", "undefined", "open question", "Approval"])
    ('open question', 'approval')
    """
    return tuple(dict.fromkeys([cleaned for label in labels if (cleaned := _clean_label(label))]))


@lru_cache(maxsize=4096)  # a corpus has a few dozen different labels, some of them in every row
def _clean_label(label: str) -> str:
    """Empty for a label that is dropped."""
    cleaned = clean_text(label).lower()
    return "" if cleaned == "undefined" else cleaned
