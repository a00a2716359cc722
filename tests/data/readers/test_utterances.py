from __future__ import annotations

from dataclasses import replace

import pytest

from fires_exp.data.readers.utterances import SpokenLine, clean_labels, clean_text, merge_turns
from fires_exp.data.records import Clip, Utterance

LINE = SpokenLine(
    speaker="Client",
    text="I told you.",
    emotions=("sadness",),
    strategies=(),
    video="S01E01.mp4",
    start_seconds=54.0,
    end_seconds=55.0,
    number=0,
    row=2,
)


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("look <|image_pad|> here<|im_end|>", "look here"),
        ("<think>no</think> <response>yes</response>", "no yes"),
        ("</THINK >?", "</THINK >?"),
        ("<|im_<|x|>end|>gone", "gone"),
        ("<thi<think>nk>", "<thi nk>"),
        ("<|im\x00_end|>gone", "gone"),
        ("he\x00l\x07lo\ud800", "hello"),
        (" two\r\n\tlines ", "two lines"),
        ("a < b | c > d, <i>quoted</i>", "a < b | c > d, <i>quoted</i>"),
        ("♪ crème brûlée 😀", "♪ crème brûlée 😀"),
        ("<|endoftext|>", ""),
    ],
)
def test_clean_text_removes_reserved_tokens_and_control_characters_only(dirty: str, clean: str) -> None:
    assert clean_text(dirty) == clean


def test_labels_are_lower_case_and_distinct_in_their_order() -> None:
    assert clean_labels(["Open question", "undefined", "Approval", "open question", ""]) == ("open question", "approval")


def test_consecutive_lines_of_a_speaker_are_one_turn_from_the_first_start_to_the_last_end() -> None:
    second = replace(LINE, text="Twice.", emotions=("anger", "sadness"), start_seconds=56.0, end_seconds=58.5, number=1, row=3)
    answer = replace(LINE, speaker="Therapist", text="What?", row=4)
    first, last = merge_turns([LINE, second, answer])
    assert first.as_utterance("seeker") == Utterance(
        speaker="seeker",
        text="I told you. Twice.",
        emotions=("sadness", "anger"),
        clip=Clip(video="S01E01.mp4", start_seconds=54.0, end_seconds=58.5),
    )
    assert first.rows == (2, 3)
    assert last.rows == (4,)


@pytest.mark.parametrize(
    "lines",
    [
        [replace(LINE, start_seconds=55.0, end_seconds=54.0)],
        [replace(LINE, start_seconds=54.0, end_seconds=54.0)],
        [replace(LINE, start_seconds=None, end_seconds=None)],
        [replace(LINE, video=None)],
        [LINE, replace(LINE, video="S01E02.mp4", start_seconds=60.0, end_seconds=61.0)],
    ],
    ids=["ends before it starts", "no length", "no times", "no video", "two videos"],
)
def test_a_turn_without_a_span_of_one_video_has_no_clip(lines: list[SpokenLine]) -> None:
    (turn,) = merge_turns(lines)
    assert turn.clip is None


def test_an_empty_conversation_has_no_turns() -> None:
    assert merge_turns([]) == ()
