"""Prediction files: answers in the order of the references, and one line for every mistake in a file."""

import json

import pytest

from fires_exp.errors import ScoreError
from fires_exp.metrics.prediction_files import read_systems

REFERENCES = [{"id": "a", "response": "How do you feel?", "context": "I failed."}, {"id": "b", "response": "I see."}]
GOOD = {"id": "a", "response": "x"}


@pytest.fixture
def write(tmp_path):
    """Write rows, or lines as they are, into a file and give its path."""

    def lines(name, rows):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    return lines


def test_answers_are_in_the_order_of_the_references_with_their_contexts(write):
    predictions = [{"id": "b", "response": "B", "context": "from b"}, {"id": "a", "response": "A", "context": "not this"}]
    (answers,) = read_systems([write("p.jsonl", predictions)], write("r.jsonl", REFERENCES)).values()
    assert [(answer.response, answer.reference, answer.context) for answer in answers] == [
        ("A", "How do you feel?", "I failed."),
        ("B", "I see.", "from b"),
    ]
    assert [answer.well_formed for answer in answers] == [None, None]


def test_files_with_the_same_stem_are_named_by_their_paths(write):
    rows = [{"id": "a", "response": "x", "reference_response": "y"}]
    files = [write("one/sft.jsonl", rows), write("two/sft.jsonl", rows), write("grpo.jsonl", rows)]
    names = list(read_systems(files, None))
    assert [name.rpartition("/")[2] for name in names] == ["sft", "sft", "grpo"]
    assert "one" in names[0]
    assert names[2] == "grpo"


MISTAKES = {
    "invalid JSON": (["{broken"], "p.jsonl:1: "),
    "not an object": (["[1]"], "p.jsonl:1: "),
    "no id": ([{"response": "x"}], 'p.jsonl:1: no "id"'),
    "no response": ([GOOD, "", {"id": "b"}], 'p.jsonl:3: no "response"'),
    "number as id": ([{"id": 3, "response": "x"}], 'p.jsonl:1: "id" is 3'),
    "string as truth value": ([{**GOOD, "well_formed": "yes"}], 'p.jsonl:1: "well_formed" is "yes"'),
    "repeated id": ([GOOD, {"id": "b", "response": "x"}, GOOD], r"p.jsonl:3: id a .*p.jsonl:1"),
    "unknown id": ([GOOD, {"id": "b", "response": "x"}, {"id": "z", "response": "x"}], r"p.jsonl:3: id z .*r.jsonl"),
    "missing id": ([GOOD], r"p.jsonl: .*id b \(\S+r.jsonl:2\)"),
    "empty file": ([], "p.jsonl: no rows"),
}


@pytest.mark.parametrize(("rows", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_a_file_is_one_line_that_names_file_and_row(write, rows, message):
    with pytest.raises(ScoreError, match=message) as caught:
        read_systems([write("p.jsonl", rows)], write("r.jsonl", REFERENCES))
    assert "\n" not in str(caught.value)


def test_without_references_the_predictions_must_hold_the_same_ones(write):
    own = [{"id": "a", "response": "x", "reference_response": "y"}]
    first = write("first.jsonl", own)
    with pytest.raises(ScoreError, match=r'p.jsonl:1: no "reference_response"; write references='):
        read_systems([write("p.jsonl", [GOOD])], None)
    with pytest.raises(ScoreError, match=r"p.jsonl:1: reference_response .*first.jsonl:1; write references="):
        read_systems([first, write("p.jsonl", [{**own[0], "reference_response": "z"}])], None)
    with pytest.raises(ScoreError, match=r"p.jsonl:1: id b .*first.jsonl"):
        read_systems([first, write("p.jsonl", [{**own[0], "id": "b"}])], None)


def test_files_that_cannot_be_read_are_one_line(write, tmp_path):
    with pytest.raises(ScoreError, match=r"gone.jsonl: No such file or directory"):
        read_systems([str(tmp_path / "gone.jsonl")], None)
    (tmp_path / "latin.jsonl").write_bytes('{"id": "a", "response": "é"}'.encode("latin-1"))
    with pytest.raises(ScoreError, match=r"latin.jsonl: byte 25"):
        read_systems([str(tmp_path / "latin.jsonl")], None)
    file = write("p.jsonl", [GOOD])
    with pytest.raises(ScoreError, match=r"predictions=.* twice"):
        read_systems([file, file], write("r.jsonl", [GOOD]))
