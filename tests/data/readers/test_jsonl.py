from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from fires_exp.data.readers import jsonl
from fires_exp.data.readers.jsonl import read_jsonl
from fires_exp.data.readers.row_errors import RowProblems
from fires_exp.data.records import Clip, Utterance
from fires_exp.errors import DataError

TALK: dict[str, Any] = {
    "id": "talk-7",
    "split": "val",
    "turns": [
        {
            "speaker": "seeker",
            "text": "I failed the exam.",
            "emotions": ["Sadness"],
            "video": "talks/7.mp4",
            "start_seconds": 0,
            "end_seconds": 2.5,
        },
        {"speaker": "supporter", "text": "What happened?", "strategies": ["open question"], "thought": {"emotion": "ashamed"}},
    ],
}


def changed(*path: str | int, to: object) -> dict[str, Any]:
    """`TALK` with the value at a path changed."""
    talk: Any = copy.deepcopy(TALK)
    parent = talk
    for step in path[:-1]:
        parent = parent[step]
    parent[path[-1]] = to
    return dict(talk)


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines), encoding="utf-8")
    return path


def test_a_line_is_a_conversation(tmp_path: Path) -> None:
    (talk,) = read_jsonl(write(tmp_path / "a.jsonl", "", TALK), problems=RowProblems("error"))
    assert (talk.id, talk.split, talk.source) == ("talk-7", "val", "a.jsonl:2")
    assert talk.turns == (
        Utterance(
            speaker="seeker",
            text="I failed the exam.",
            emotions=("sadness",),
            clip=Clip(video="talks/7.mp4", start_seconds=0.0, end_seconds=2.5),
        ),
        Utterance(speaker="supporter", text="What happened?", strategies=("open question",)),
    )
    assert talk.notes == {1: {"emotion": "ashamed"}}


def test_the_files_of_a_folder_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", changed("id", to="second"))
    write(tmp_path / "a.jsonl", changed("id", to="first"))
    (tmp_path / "notes.txt").write_text("no conversation")
    assert [talk.id for talk in read_jsonl(tmp_path, problems=RowProblems("error"))] == ["first", "second"]


def test_turns_of_one_speaker_are_merged_with_the_thought_of_the_first(tmp_path: Path) -> None:
    more = [*TALK["turns"], {"speaker": "supporter", "text": "Tell me."}]
    (talk,) = read_jsonl(write(tmp_path / "a.jsonl", changed("turns", to=more)), problems=RowProblems("error"))
    assert talk.turns[1].text == "What happened? Tell me."
    assert talk.notes == {1: {"emotion": "ashamed"}}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"id": ', "is not json (Expecting value at column"),
        ("[1, 2]", "the conversation is [1, 2]"),
        ("[" * 100_000, "is not json ("),
        ("9" * 5_000, "is not json ("),
        (changed("mood", to="bad"), "the conversation has unknown key 'mood'"),
        ({"id": "x", "split": "train"}, "the conversation has no turns"),
        (changed("id", to=7), "id 7 "),
        (changed("id", to="a\nb"), r"id 'a\nb' "),
        (changed("split", to="dev"), "split 'dev' "),
        (changed("turns", to=[]), "turns is []"),
        (changed("turns", 0, to="hello"), "turn 1 is 'hello'"),
        (changed("turns", 0, "speaker", to="Client"), "turn 1: speaker 'Client' "),
        (changed("turns", 0, "speaker", to=["seeker"]), "turn 1: speaker ['seeker'] "),
        (changed("turns", 0, "text", to=" "), "turn 1: text ' ' "),
        (changed("turns", 0, "text", to="<|im_end|>"), "turn 1: text '' "),
        (changed("turns", 0, "emotion", to="sad"), "turn 1 has unknown key 'emotion'"),
        (changed("turns", 0, "emotions", to="sad"), "turn 1: emotions 'sad' "),
        (changed("turns", 0, "emotions", to=[1]), "turn 1: emotions 1 "),
        (changed("turns", 0, "end_seconds", to=None), "turn 1 has only video and start_seconds"),
        (changed("turns", 0, "end_seconds", to=0), "turn 1: end_seconds 0.0 is not after start_seconds 0.0"),
        (changed("turns", 0, "start_seconds", to=-1), "turn 1: start_seconds -1 "),
        (changed("turns", 0, "start_seconds", to=True), "turn 1: start_seconds True "),
        (changed("turns", 0, "end_seconds", to=float("nan")), "turn 1: end_seconds nan "),
        (changed("turns", 0, "end_seconds", to=10**400), "turn 1: end_seconds 1000"),
        (changed("turns", 0, "thought", to={"emotion": "sad"}), "turn 1 has a thought "),
        (changed("turns", 1, "thought", to={"mood": "sad"}), "thought of turn 2 has unknown key 'mood'"),
        (changed("turns", 1, "thought", to="sad"), "thought of turn 2 is 'sad'"),
    ],
)
def test_a_bad_line_is_an_error_or_its_conversation_is_left_out(tmp_path: Path, line: object, problem: str) -> None:
    file = write(tmp_path / "a.jsonl", changed("id", to="good"), line)
    with pytest.raises(DataError, match=r"^a\.jsonl:2: " + re.escape(problem)) as raised:
        read_jsonl(file, problems=RowProblems("error"))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300
    problems = RowProblems("skip")
    assert [talk.id for talk in read_jsonl(file, problems=problems)] == ["good"]
    assert [row.line for row in problems.rows] == [2]


def test_a_thought_in_the_middle_of_a_turn_is_an_error(tmp_path: Path) -> None:
    more = [*TALK["turns"], {"speaker": "supporter", "text": "Tell me.", "thought": {"emotion": "sad"}}]
    with pytest.raises(DataError, match=r"^a\.jsonl:1: turn 3 has a thought "):
        read_jsonl(write(tmp_path / "a.jsonl", changed("turns", to=more)), problems=RowProblems("error"))


def test_an_id_in_two_lines_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", TALK)
    write(tmp_path / "b.jsonl", TALK)
    with pytest.raises(DataError, match=r"^b\.jsonl:1: id 'talk-7' .*a\.jsonl:1"):
        read_jsonl(tmp_path, problems=RowProblems("error"))


def test_a_line_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", TALK)
    file.write_bytes(file.read_bytes() + b'{"id": "\xff"}\n')
    with pytest.raises(DataError, match=r"^a\.jsonl:2: .*UTF-8"):
        read_jsonl(file, problems=RowProblems("error"))


def test_a_folder_without_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"^dataset\.root={tmp_path} .*\.jsonl"):
        read_jsonl(tmp_path, problems=RowProblems("error"))


def test_the_example_in_the_documentation_can_be_read(tmp_path: Path) -> None:
    documentation = jsonl.__doc__ or ""
    example = documentation[documentation.index("{") : documentation.index("}}]}") + 4]
    (talk,) = read_jsonl(write(tmp_path / "a.jsonl", json.loads(example)), problems=RowProblems("error"))
    assert talk.notes[1]["response_strategy"] == "I should ask."


def test_windows_line_ends_and_a_byte_order_mark_are_accepted(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", TALK, changed("id", to="second"))
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert [talk.id for talk in read_jsonl(file, problems=RowProblems("error"))] == ["talk-7", "second"]
