"""What each baseline learns to write, and how it is read back."""

from dataclasses import replace

import pytest
from making import make_example

from fires_exp.baselines.labels import Label, check_labels
from fires_exp.baselines.registry import BASELINES
from fires_exp.config.baselines import TrainedBaselineConfig
from fires_exp.data.records import Utterance
from fires_exp.errors import ConfigError, DataError

SMES, JOINT, BBMHR = BASELINES["smes"], BASELINES["blenderbot_joint"], BASELINES["bbmhr"]


@pytest.fixture
def example():
    """A labeled instance: the seeker, the supporter, the seeker again."""
    history = (
        Utterance(speaker="seeker", text="I lost my job.", emotions=("sadness", "fear")),
        Utterance(speaker="supporter", text="When?", emotions=("neutral",), strategies=("open question",)),
        Utterance(speaker="seeker", text="Today.", emotions=("anger", "neutral")),
    )
    target = Utterance(speaker="supporter", text="Today!", emotions=("joy",), strategies=("restatement", "approval"))
    return replace(make_example(), history=history, target=target)


def test_the_texts_by_hand(example):
    assert SMES.target(example) == "[seeker emotion] anger [strategy] restatement [supporter emotion] joy [response] Today!"
    assert JOINT.target(example) == "[restatement] Today!"
    assert BBMHR.target(example) == "Today!"


@pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES)
def test_what_is_learned_is_read_back_whole(baseline, example):
    reading = baseline.read(baseline.target(example))
    assert reading.well_formed
    assert reading.response == "Today!"
    assert reading.said == {label: label.of(example) for label in baseline.needs}


@pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES)
def test_marks_are_pieces_of_what_is_learned(baseline, example):
    marks = baseline.marks([example, example])
    assert len(set(marks)) == len(marks)
    assert all(mark in baseline.target(example) for mark in marks)
    assert len(marks) == {"smes": 4, "blenderbot_joint": 1, "bbmhr": 0}[baseline.name]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("[seeker emotion] anger [strategy] open", "anger open"),
        ("[seeker emotion] anger [response] Hm. [strategy] approval", "Hm. approval"),
        ("Well, [seeker emotion] anger [strategy] approval [supporter emotion] joy [response] Hm.", "Hm."),
        ("[seeker emotion] anger [strategy] approval [supporter emotion] [response] Hm.", "Hm."),
        ("[seeker emotion] anger [strategy] approval [supporter emotion] joy [response] ", ""),
        ("", ""),
    ],
)
def test_a_malformed_smes_text_is_told_and_what_is_left_is_scored(text, left):
    reading = SMES.read(text)
    assert (reading.response, reading.said, reading.well_formed) == (left, {}, False)


@pytest.mark.parametrize(("text", "left"), [("Hm.", "Hm."), ("Hm. [approval]", "Hm. [approval]"), ("[approval", "[approval")])
def test_a_joint_text_without_a_strategy_before_it_is_malformed(text, left):
    reading = JOINT.read(text)
    assert (reading.response, reading.said, reading.well_formed) == (left, {}, False)
    assert not JOINT.read("[approval] ").well_formed


def test_hints_stand_after_their_turns_and_strategies_before_those_of_the_supporter(example):
    hints = ["She cries.", "", "She frowns."]
    assert SMES.lines(example, hints) == ["I lost my job. (She cries.)", "When?", "Today. (She frowns.)"]
    assert JOINT.lines(example, ["", "", ""]) == ["I lost my job.", "[open question] When?", "Today."]


def test_a_missing_label_is_one_line_that_names_the_row_and_who_has_labels(example):
    bare = replace(make_example("b"), target=replace(example.target, strategies=()))
    check_labels("smes", SMES.needs, [example], "own")
    with pytest.raises(DataError) as caught:
        check_labels("blenderbot_joint", JOINT.needs, [example, bare], "own")
    line = str(caught.value)
    assert line.startswith("b.csv:1: no strategy for b (1 of 2 instances of dataset=own have none), and trained_baseline=")
    assert "dataset=mesc or dataset=sample" in line
    assert "\n" not in line


def test_the_seeker_s_emotion_is_that_of_the_last_seeker_turn_and_absent_where_there_is_none(example):
    assert Label.SEEKER_EMOTION.of(example) == "anger"
    assert Label.SEEKER_EMOTION.of(replace(example, history=example.history[1:2])) == ""


def test_the_registry_holds_what_the_configuration_can_name():
    with pytest.raises(ConfigError, match="choose one of none, " + ", ".join(BASELINES) + "$"):
        TrainedBaselineConfig(name="eliza", model="seq2seq")
