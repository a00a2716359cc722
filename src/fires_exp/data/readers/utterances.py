"""From lines as a corpus has them to turns: text is cleaned, and consecutive lines of one speaker become one turn."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from operator import attrgetter

from fires_exp.data.records import Clip, Role, Utterance

NOTE_ASPECTS = ("visual_scene", "emotion", "situation", "response_strategy")

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff]")  # those that are not white space
_RESERVED = re.compile(r"<\|[^<>]*\|>|</?(?:think|response)>", re.IGNORECASE)
_HALF_MARK = re.compile(r"<\||\|>")
_SPEAKER = attrgetter("speaker")
_NESTED = 9  # marks within marks; deeper ones, which nobody writes, lose their halves all at once


@dataclass(kw_only=True, slots=True)  # not frozen: there is one for every row of a corpus, and it would take thrice as long
class SpokenLine:
    """One utterance of a corpus, its text and labels clean. `speaker` is the corpus's own word.

    `number` is the utterance's own number in its conversation, `row` the line of the file it stands in.
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
        """Where the turn comes from: lines of its file."""
        return tuple(line.row for line in self.lines)

    @property
    def clip(self) -> Clip | None:
        """From the first start to the last end; None without times, where they run backwards, or over two videos."""
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
    """The turns of one conversation, whose lines stand in order."""
    return tuple(Turn(lines=tuple(group)) for _, group in groupby(lines, key=_SPEAKER))


def clean_text(text: str) -> str:
    """Text that cannot be mistaken for a prompt's own marks, on one line.

    Taken out: `<|…|>`, which a tokenizer may read as an image or as the end of a message; the four tags of a completion;
    control characters. White space is collapsed.

    >>> clean_text("So <|im_end|>you\\n feel <think>low</think>?")
    'So you feel low ?'
    """
    if text.isprintable() and "<" not in text:  # nearly all: no control character, nothing reserved
        return " ".join(text.split())
    text = _CONTROL.sub("", text)
    for _ in range(_NESTED):  # taking one mark out can put the two halves of another together
        text, found = _RESERVED.subn(" ", text)
        if not found:
            break
    else:
        text = _HALF_MARK.sub(" ", text)
    return " ".join(text.split())


def clean_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Lower-case labels, each once, in the order of their first appearance; `undefined` is no label.

    >>> clean_labels(["Open question", "undefined", "open question", "Approval"])
    ('open question', 'approval')
    """
    return tuple(dict.fromkeys([cleaned for label in labels if (cleaned := _clean_label(label))]))


@lru_cache(maxsize=4096)  # a corpus has a few dozen labels and names some in every row
def _clean_label(label: str) -> str:
    """Empty for one that is none."""
    cleaned = clean_text(label).lower()
    return "" if cleaned == "undefined" else cleaned
