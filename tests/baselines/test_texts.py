"""Target texts of each baseline, and parsing them."""

from dataclasses import replace

import pytest
from making import make_example

from fires_exp.baselines.labels import Label, check_labels
from fires_exp.baselines.registry import BASELINES, configured_baseline
from fires_exp.config.baselines import TrainedBaselineConfig, TrainedBaselineName
from fires_exp.data.records import Utterance
from fires_exp.errors import DataError

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
    assert SMES.target_text(example) == "[seeker emotion] anger [strategy] restatement [supporter emotion] joy [response] Today!"
    assert JOINT.target_text(example) == "[restatement] Today!"
    assert BBMHR.target_text(example) == "Today!"


@pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES)
def test_parsing_inverts_the_target_text(baseline, example):
    output = baseline.parse(baseline.target_text(example))
    assert output.well_formed
    assert output.response == "Today!"
    assert output.labels == {label: label.of(example) for label in baseline.required_labels}


@pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES)
def test_special_tokens_are_parts_of_the_target_text(baseline, example):
    tokens = baseline.special_tokens([example, example])
    assert len(set(tokens)) == len(tokens)
    assert all(token in baseline.target_text(example) for token in tokens)
    assert len(tokens) == {"smes": 4, "blenderbot_joint": 1, "bbmhr": 0}[baseline.name]


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("[seeker emotion] anger [strategy] open", "anger open"),
        ("[seeker emotion] anger [response] Hm. [strategy] approval", "Hm. approval"),
        ("Well, [seeker emotion] anger [strategy] approval [supporter emotion] joy [response] Hm.", "Hm."),
        ("[seeker emotion] anger [strategy] approval [supporter emotion] [response] Hm.", "Hm."),
        ("[seeker emotion] anger [strategy] approval [supporter emotion] joy [response] ", ""),
        ("", ""),
    ],
)
def test_a_malformed_smes_text_is_flagged_and_its_readable_rest_is_the_response(text, rest):
    output = SMES.parse(text)
    assert (output.response, output.labels, output.well_formed) == (rest, {}, False)


@pytest.mark.parametrize(("text", "rest"), [("Hm.", "Hm."), ("Hm. [approval]", "Hm. [approval]"), ("[approval", "[approval")])
def test_a_joint_text_without_a_strategy_before_it_is_malformed(text, rest):
    output = JOINT.parse(text)
    assert (output.response, output.labels, output.well_formed) == (rest, {}, False)
    assert not JOINT.parse("[approval] ").well_formed


def test_hints_follow_their_turns_and_strategies_precede_supporter_turns(example):
    hints = ["She cries.", "", "She frowns."]
    assert SMES.render_history(example, hints) == ["I lost my job. (She cries.)", "When?", "Today. (She frowns.)"]
    assert JOINT.render_history(example, ["", "", ""]) == ["I lost my job.", "[open question] When?", "Today."]


def test_a_missing_label_error_names_the_row_and_datasets_with_labels(example):
    bare = replace(make_example("b"), target=replace(example.target, strategies=()))
    check_labels("smes", SMES.required_labels, [example], "own")
    with pytest.raises(DataError) as caught:
        check_labels("blenderbot_joint", JOINT.required_labels, [example, bare], "own")
    line = str(caught.value)
    assert line.startswith("b.csv:1: ")
    assert "strategy" in line
    assert "1 of 2" in line
    assert "trained_baseline=blenderbot_joint" in line
    assert "dataset=mesc or dataset=sample" in line
    assert "\n" not in line


def test_the_seeker_emotion_is_that_of_the_last_seeker_turn_or_empty(example):
    assert Label.SEEKER_EMOTION.of(example) == "anger"
    assert Label.SEEKER_EMOTION.of(replace(example, history=example.history[1:2])) == ""


def test_the_registry_holds_every_name_of_the_configuration():
    assert ["none", *BASELINES] == list(TrainedBaselineName)
    for name in TrainedBaselineName:
        baseline = configured_baseline(TrainedBaselineConfig(name=name, model="seq2seq"))
        assert baseline is BASELINES.get(name)
