"""Thoughts as text, the rule-based teacher, banks on disk."""

import json

import pytest

from fires_exp.data.records import SupportExample, Utterance
from fires_exp.errors import DataError
from fires_exp.thinking.aspects import Aspect, ThinkingPlan
from fires_exp.thinking.bank import read_bank, write_bank
from fires_exp.thinking.rule_teacher import thought_by_rules
from fires_exp.thinking.synthesis import thoughts_by_rules
from fires_exp.thinking.thought import Thought, parse_thought

ALL = tuple(Aspect)


def plan(kind="flexible", aspects=ALL):
    return ThinkingPlan(kind=kind, aspects=aspects)


def example(
    seeker="I lost my job last week and now I cannot pay the rent.",
    emotions=("sadness",),
    strategies=("open question",),
    notes=None,
):
    return SupportExample(
        id="x-1",
        split="train",
        history=(Utterance(speaker="seeker", text=seeker, emotions=emotions),),
        target=Utterance(speaker="supporter", text="What happened?", strategies=strategies),
        notes=notes or {},
    )


def test_labels_become_a_thought_without_unsupported_aspects():
    thought = thought_by_rules(example(), plan())
    assert thought.aspects == {
        Aspect.EMOTION: "sadness",
        Aspect.SITUATION: 'The seeker says: "I lost my job last week and now I cannot pay the rent."',
        Aspect.RESPONSE_STRATEGY: "I should ask an open question so that the seeker can say more.",
    }


def test_a_short_neutral_turn_gives_an_unknown_situation_and_no_emotion():
    thought = thought_by_rules(example(seeker="Hello.", emotions=("neutral",)), plan())
    assert thought.aspects[Aspect.SITUATION] == "Unknown"
    assert Aspect.EMOTION not in thought.aspects


def test_the_fixed_plan_names_every_aspect():
    thought = thought_by_rules(example(seeker="Hello.", emotions=("neutral",)), plan("fixed"))
    assert list(thought.aspects) == list(Aspect)
    assert [thought.status(aspect) for aspect in Aspect] == ["unknown", "neutral", "unknown", "included"]


@pytest.mark.parametrize("left_out", list(Aspect))
def test_an_aspect_outside_of_the_plan_is_not_in_the_thought(left_out):
    thought = thought_by_rules(example(), plan(aspects=tuple(aspect for aspect in Aspect if aspect is not left_out)))
    assert left_out not in thought.aspects


def test_a_free_thought_names_no_aspect():
    thought = thought_by_rules(example(), plan("free", ()))
    assert not thought.aspects
    assert parse_thought(thought.text).aspects == {}
    assert "sadness" in thought.prose


def test_notes_of_the_corpus_take_precedence_over_the_rules():
    notes = {"visual_scene": "The seeker wipes tears away.", "response_strategy": "I should name the tears."}
    thought = thought_by_rules(example(notes=notes), plan())
    assert thought.aspects == {Aspect.VISUAL_SCENE: notes["visual_scene"], Aspect.RESPONSE_STRATEGY: notes["response_strategy"]}


def test_a_thought_never_quotes_the_reference_response():
    assert "What happened" not in thought_by_rules(example(), plan("fixed")).text


def test_parsing_inverts_the_text_of_a_thought():
    thought = thought_by_rules(example(), plan("fixed"))
    assert parse_thought(thought.text) == thought


def test_parsing_accepts_one_line_and_any_case_and_leaves_out_not_helpful():
    parsed = parse_thought("Hm. EMOTION: sad. Situation: Unknown Response strategy: I should ask. Visual Scene: Not helpful.")
    assert parsed == Thought(
        prose="Hm.",
        aspects={Aspect.EMOTION: "sad.", Aspect.SITUATION: "Unknown", Aspect.RESPONSE_STRATEGY: "I should ask."},
    )


def test_reading_a_bank_inverts_writing(tmp_path):
    banked = list(thoughts_by_rules([example()], plan()))
    assert write_bank(tmp_path / "bank.jsonl", banked) == 1
    assert read_bank(tmp_path / "bank.jsonl") == {"x-1": banked[0]}
    assert banked[0].teacher == "rules"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", ""),
        ('{"example_id": "x"}', "'plan'"),
        ("[]", ""),
    ],
)
def test_an_invalid_line_of_a_bank_is_named(tmp_path, line, problem):
    path = tmp_path / "bank.jsonl"
    write_bank(path, thoughts_by_rules([example()], plan()))
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match=rf"bank\.jsonl:2: .*{problem}"):
        read_bank(path)


def test_an_unknown_aspect_and_a_duplicate_thought_are_rejected(tmp_path):
    path = tmp_path / "bank.jsonl"
    write_bank(path, thoughts_by_rules([example()], plan()))
    row = json.loads(path.read_text())
    path.write_text(path.read_text() * 2)
    with pytest.raises(DataError, match=r":2: .*x-1"):
        read_bank(path)
    row["aspects"] = {"mood": "x"}
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match="mood"):
        read_bank(path)
