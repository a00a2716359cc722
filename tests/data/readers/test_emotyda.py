from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from fires_exp.data.readers.emotyda import read_emotyda_esc
from fires_exp.data.readers.row_errors import RowProblems
from fires_exp.data.records import SupportExample
from fires_exp.errors import DataError

LABELS = "Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime,Dialogue Act"
TEXT = "Utterance,Sentiment,Dialogue_ID,Utterance_ID"

# speaker, dialogue, utterance, act, sentiment
LINES = [
    ("Ross", 830, 0, "s", "neutral"),  # not in the last fifth
    ("Joey", 830, 1, "s", "neutral"),
    ("Ross", 831, 0, "s", "neutral"),  # no earlier turn
    ("Joey", 831, 1, "b", "neutral"),  # a backchannel
    ("Ross", 831, 2, "q", "positive"),  # instance
    ("Ross", 831, 3, "q", "neutral"),
    ("Joey", 831, 4, "s", "neutral"),  # one of two is negative
    ("Joey", 831, 5, "s", "negative"),
    ("Ross", 831, 6, "g ", "neutral"),  # a greeting
    ("Joey", 831, 7, "c ", "neutral"),  # instance
    ("Ross", 832, 0, "s", "neutral"),  # three speakers
    ("Joey", 832, 1, "s", "neutral"),
    ("Phoebe", 832, 2, "s", "neutral"),
]


def write(root: Path, *, without_text_of: int | None = None) -> Path:
    labels = [
        f'd¬ímage,{speaker},joy,{dialogue},{number},8,21,"0:00:0{number},000","0:00:0{number},900",{act}'
        for speaker, dialogue, number, act, _ in LINES
    ]
    text = [
        f"it’s {dialogue}/{number},{sentiment},{dialogue},{number}"
        for _, dialogue, number, _, sentiment in LINES
        if dialogue < 831 or number != without_text_of
    ]
    (root / "EMOTyDA_MELD.csv").write_text("\n".join([LABELS, *labels]) + "\n", encoding="utf-8")
    (root / "MELD_train_sent_emo.csv.gz").write_bytes(gzip.compress("\n".join([TEXT, *text]).encode()))
    return root


def read(root: Path, problems: RowProblems | None = None) -> tuple[SupportExample, ...]:
    return read_emotyda_esc(root, video_pattern="S{season:02d}E{episode:02d}.mp4", problems=problems or RowProblems("error"))


def test_our_subset_of_the_real_corpus_has_304_test_instances(real_data: Path) -> None:
    examples = read(real_data / "emotyda")
    assert len(examples) == len({example.id for example in examples}) == 304
    assert {example.split for example in examples} == {"test"}
    assert {example.target.speaker for example in examples} == {"supporter"}
    assert all(example.history[-1].speaker == "seeker" for example in examples)
    assert not any("¬" in turn.text for example in examples for turn in example.history)


def test_targets_are_supportive_turns_with_an_earlier_turn_in_dialogues_of_two_speakers(tmp_path: Path) -> None:
    examples = read(write(tmp_path))
    assert [example.id for example in examples] == ["emotyda-831-2", "emotyda-831-5"]
    assert examples[0].target.text == "it’s 831/2 it’s 831/3"
    assert examples[0].target.emotions == ("joy",)
    assert examples[0].source == "EMOTyDA_MELD.csv:4-7"


def test_the_speaker_of_the_target_is_the_supporter(tmp_path: Path) -> None:
    by_ross, by_joey = read(write(tmp_path))
    assert [turn.speaker for turn in by_ross.history] == ["supporter", "seeker"]
    assert [turn.speaker for turn in by_joey.history] == ["seeker", "supporter", "seeker", "supporter", "seeker"]


def test_the_dialogue_act_is_not_a_label(tmp_path: Path) -> None:
    for example in read(write(tmp_path)):
        assert all(turn.strategies == () for turn in (*example.history, example.target))


def test_an_utterance_without_clean_text_is_a_bad_row(tmp_path: Path) -> None:
    root = write(tmp_path, without_text_of=7)
    with pytest.raises(DataError, match=r"^EMOTyDA_MELD\.csv:11: Utterance_ID 7 of Dialogue_ID 831 .*MELD_train"):
        read(root)
    problems = RowProblems("skip")
    assert [example.id for example in read(root, problems)] == ["emotyda-831-2"]
    assert [row.line for row in problems.rows] == [11]


def test_a_truncated_archive_is_an_error(tmp_path: Path) -> None:
    root = write(tmp_path)
    (root / "MELD_train_sent_emo.csv.gz").write_bytes((root / "MELD_train_sent_emo.csv.gz").read_bytes()[:-20])
    with pytest.raises(DataError, match=r"MELD_train_sent_emo\.csv\.gz"):
        read(root)
