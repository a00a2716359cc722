from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fires_exp.config.data import BadRowPolicy
from fires_exp.data.readers.mesc import read_mesc
from fires_exp.data.readers.row_errors import RowProblems
from fires_exp.data.records import Clip, Conversation, support_examples
from fires_exp.errors import DataError

NOTES_HEADER = "Dialogue_ID,Utterance_ID,visual_scene,emotion,situation,response_strategy"


def read(root: Path, policy: BadRowPolicy = "error") -> tuple[tuple[Conversation, ...], RowProblems]:
    problems = RowProblems(policy)
    pattern = "S{season:02d}E{episode:02d}.mp4"
    return read_mesc(root, corpus="mesc", video_pattern=pattern, problems=problems), problems


def test_the_real_corpus_has_the_papers_instances(real_data: Path) -> None:
    conversations, _ = read(real_data / "mesc")
    assert len(conversations) == 1019
    examples = [example for conversation in conversations for example in support_examples(conversation)]
    counts = {split: sum(example.split == split for example in examples) for split in ("train", "val", "test")}
    assert counts == {"train": 3721, "val": 445, "test": 454}
    assert sum(len(example.target.strategies) > 1 for example in examples) == 728
    assert examples[0].history[0].clip == Clip(video="S01E01.mp4", start_seconds=54.097, end_seconds=55.113)


def test_clients_are_seekers_therapists_are_supporters_and_consecutive_lines_one_turn(mesc_folder: Callable[..., Path]) -> None:
    (first, second), _ = read(mesc_folder())
    assert (first.id, first.split, second.id, second.split) == ("mesc-0", "train", "mesc-1", "test")
    assert [(turn.speaker, turn.text) for turn in first.turns] == [
        ("seeker", "I told you. Twice."),
        ("supporter", "Told me what? Go on."),
    ]
    assert first.turns[0].emotions == ("sadness", "anger")
    assert first.turns[0].strategies == ()
    assert first.turns[1].strategies == ("open question",)
    assert first.turns[1].clip == Clip(video="S01E01.mp4", start_seconds=3.0, end_seconds=5.0)
    assert first.source == "MESC.csv:2-5"


def test_a_supporter_turn_without_an_earlier_turn_is_no_instance(mesc_folder: Callable[..., Path]) -> None:
    (_, second), _ = read(mesc_folder())
    assert [example.id for example in support_examples(second)] == ["mesc-1-2"]


def test_utterances_are_sorted_by_their_ids(mesc_folder: Callable[..., Path], mesc_rows: Sequence[str]) -> None:
    (second, first), _ = read(mesc_folder(list(reversed(mesc_rows))))
    assert [turn.text for turn in first.turns] == ["I told you. Twice.", "Told me what? Go on."]
    assert [turn.text for turn in second.turns] == ["Hello.", "Hi.", "How are you?"]


GOOD = 'Fine.,Client,joy,undefined,1,3,1,2,"00:00:03,000","00:00:04,000"'


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("Client", "Doctor", "Speaker 'Doctor' "),
        ("Fine.", "", "Utterance is empty"),
        ("Fine.", "<|im_end|>", "Utterance is empty"),
        ("Fine.", "Fi\0ne.", "Utterance has a NUL byte"),
        ("00:00:03,000", "00:0x", "StartTime '00:0x' "),
        ("00:00:04,000", "00:00:61,000", "EndTime '00:00:61,000' "),
        ("1,3,1,2", "1,three,1,2", "Utterance_ID 'three' "),
        ("1,3,1,2", "1.0,3,1,2", "Dialogue_ID '1.0' "),
        ("1,3,1,2", "1,3,1,-2", "Episode '-2' "),
        ("1,3,1,2", "7,3,1,2", "Dialogue_ID 7 "),
        ("1,3,1,2", "1,2,1,2", "Utterance_ID 2 of Dialogue_ID 1 is already in line 8"),
        ("Fine.", "Fine, thanks.", "has 11 cells"),
        ("Fine.", '"Fine', "cannot be read as csv"),
    ],
)
def test_a_bad_row_is_an_error_with_its_line_or_is_left_out(
    mesc_folder: Callable[..., Path], mesc_rows: Sequence[str], old: str, new: str, problem: str
) -> None:
    root = mesc_folder([*mesc_rows, GOOD.replace(old, new)])
    with pytest.raises(DataError, match=r"^MESC\.csv:9: " + re.escape(problem)) as raised:
        read(root)
    assert "dataset.on_bad_row=skip" in str(raised.value)
    assert "\n" not in str(raised.value)

    conversations, problems = read(root, "skip")
    assert [(row.file, row.line) for row in problems.rows] == [("MESC.csv", 9)]
    assert problems.rows[0].problem.startswith(problem)
    assert [turn.text for turn in conversations[1].turns] == ["Hello.", "Hi.", "How are you?"]


def test_an_error_gives_the_expected_format_of_a_cell(mesc_folder: Callable[..., Path], mesc_rows: Sequence[str]) -> None:
    with pytest.raises(DataError, match=r"^MESC\.csv:9: StartTime '00:0x' .*HH:MM:SS,mmm"):
        read(mesc_folder([*mesc_rows, GOOD.replace("00:00:03,000", "00:0x")]))


def test_line_numbers_are_those_of_a_text_editor(mesc_folder: Callable[..., Path], mesc_rows: Sequence[str]) -> None:
    two_lines = GOOD.replace("Fine.", '"Fine,\nthank you."')
    bad = GOOD.replace("Client", "Doctor").replace("1,3,1,2", "1,4,1,2")
    conversations, problems = read(mesc_folder([*mesc_rows, two_lines, "", bad]), "skip")
    assert [row.line for row in problems.rows] == [12]
    assert conversations[1].turns[-1].text == "Fine, thank you."


def test_a_row_that_is_not_utf8_is_an_error_or_is_left_out(mesc_folder: Callable[..., Path]) -> None:
    root = mesc_folder()
    content = (root / "MESC.csv").read_bytes().replace(b"Twice.", b"Tw\xffice.")
    (root / "MESC.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"^MESC\.csv:3: Utterance .*UTF-8"):
        read(root)
    conversations, _ = read(root, "skip")
    assert conversations[0].turns[0].text == "I told you."


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(mesc_folder: Callable[..., Path]) -> None:
    root = mesc_folder()
    plain, _ = read(root)
    (root / "MESC.csv").write_bytes(b"\xef\xbb\xbf" + (root / "MESC.csv").read_bytes().replace(b"\n", b"\r\n"))
    assert read(root)[0] == plain


def test_rows_without_times_have_no_clip(mesc_folder: Callable[..., Path], mesc_rows: Sequence[str]) -> None:
    (first, _), _ = read(mesc_folder([re.sub(r'"00:00:0\d,000"|"00:00:0\d,500"', "", row) for row in mesc_rows]))
    assert [turn.clip for turn in first.turns] == [None, None]


@pytest.mark.parametrize("policy", ["error", "skip"])
def test_missing_columns_are_an_error_under_either_policy(mesc_folder: Callable[..., Path], policy: BadRowPolicy) -> None:
    with pytest.raises(DataError, match=r"^MESC\.csv: .*Strategy, EndTime;"):
        read(mesc_folder([], header="Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID,Season,Episode,StartTime"), policy)


@pytest.mark.parametrize("name", ["MESC.csv", "split_ids.json"])
def test_a_missing_file_is_an_error(mesc_folder: Callable[..., Path], name: str) -> None:
    root = mesc_folder()
    (root / name).unlink()
    with pytest.raises(DataError, match=f"{name} is missing"):
        read(root)


@pytest.mark.parametrize(
    ("splits", "problem"),
    [
        ("{", r"^split_ids\.json "),
        ("[]", r"^split_ids\.json .*\[\]; write"),
        ('{"dev": [1]}', r"^split_ids\.json .*'dev'; write"),
        ('{"train": ["0"]}', r"^split_ids\.json: train .*'0'.*Dialogue_ID"),
        ('{"train": 0}', r"^split_ids\.json: train .*0; write"),
        ('{"train": [0, 1], "test": [1]}', r"^split_ids\.json: Dialogue_ID 1 .*train .*test"),
        ('{"train": [0, 1, 5]}', r"^MESC\.csv .*Dialogue_ID 5 .*split_ids\.json"),
    ],
)
def test_invalid_splits_are_an_error(mesc_folder: Callable[..., Path], splits: str, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        read(mesc_folder(splits=splits))


def test_a_video_pattern_with_unknown_names_is_an_error(mesc_folder: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=r"^dataset\.video_pattern=\{show\}\.mp4 .*\{season\} and \{episode\}"):
        read_mesc(mesc_folder(), corpus="mesc", video_pattern="{show}.mp4", problems=RowProblems("error"))


def test_notes_belong_to_the_therapist_turn_that_begins_with_their_utterance(mesc_folder: Callable[..., Path]) -> None:
    root = mesc_folder()
    (root / "notes.csv").write_text(f"{NOTES_HEADER}\n0,2,,sad  <think>,, I should ask.\n")
    (first, second), _ = read(root)
    assert first.notes == {1: {"emotion": "sad", "response_strategy": "I should ask."}}
    assert second.notes == {}
    (example,) = support_examples(first)
    assert example.notes["emotion"] == "sad"


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("0,3,,sad,,", ".*Utterance_ID 3 of Dialogue_ID 0"),
        ("0,0,,sad,,", ".*Utterance_ID 0 of Dialogue_ID 0"),
        ("9,0,,sad,,", ".*Utterance_ID 0 of Dialogue_ID 9"),
        ("0,2,,glad,,", "Utterance_ID 2 of Dialogue_ID 0 "),
    ],
)
def test_notes_for_any_other_utterance_are_bad_rows(mesc_folder: Callable[..., Path], row: str, problem: str) -> None:
    root = mesc_folder()
    (root / "notes.csv").write_text(f"{NOTES_HEADER}\n0,2,,sad,,\n{row}\n")
    with pytest.raises(DataError, match=rf"^notes\.csv:3: {problem}"):
        read(root)
    (first, _), _ = read(root, "skip")
    assert first.notes == {1: {"emotion": "sad"}}
