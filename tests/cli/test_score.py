"""`recipe=score`: files to a table, and one line for every mistake in them."""

import json

import pytest
from hydra import compose, initialize_config_module

from fires_exp.cli.score import read_systems
from fires_exp.config.load import load_config, register_schema, write_yaml
from fires_exp.errors import ScoreError
from fires_exp.pipeline.run import run_recipe

REFERENCES = [{"id": "a", "response": "How do you feel?", "context": "I failed."}, {"id": "b", "response": "I see."}]


@pytest.fixture
def write(tmp_path):
    """Write rows, or lines as they are, into a file and give its path."""

    def lines(name, rows):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    return lines


@pytest.fixture
def run(tmp_path, cache):
    """Run `recipe=score` in a folder of its own and give the folder back."""
    register_schema()

    def start(*overrides, recipe="score"):
        with initialize_config_module("fires_exp.conf", version_base="1.3"):
            places = [f"paths.cache={cache}", f"paths.artifacts={tmp_path / 'artifacts'}"]
            tree = compose("config", overrides=[f"recipe={recipe}", "scale=smoke", *places, *overrides])
        folder = tmp_path / recipe
        folder.mkdir()
        config = load_config(tree)
        write_yaml(config, folder / "resolved.yaml")
        run_recipe(config, folder)
        return folder

    return start


def values(folder, system):
    return {row["name"]: row["value"] for row in json.loads((folder / "metrics.json").read_text())["policies"][system]}


def test_files_become_a_table_with_intervals_and_p_values(run, write, capsys):
    copy = write("copy.jsonl", [{"id": row["id"], "response": row["response"]} for row in REFERENCES])
    other = write("other.jsonl", [{"id": "b", "response": "No."}, {"id": "a", "response": ""}])
    folder = run(f"predictions=[{copy},{other}]", f"references={write('refs.jsonl', REFERENCES)}")
    assert values(folder, "copy")["BLEU-2"] == 100.0
    assert values(folder, "other")["Response words"] == 0.5
    table = json.loads((folder / "metrics.json").read_text())
    assert (table["instances"], table["predictions"]) == (2, {"copy": copy, "other": other})
    assert {(row["first"], row["second"]) for row in table["comparisons"]} == {("copy", "other")}
    said = capsys.readouterr().out
    assert "100.00* [100.0, 100.0]" in said
    assert "other vs copy" in said
    page = (folder / "report.html").read_text()
    assert "other − copy" in page
    assert "smollm2_vl" not in page.split("Configuration, resolved")[0], "no model answered"
    assert not (folder.parent / "artifacts").exists()


def test_a_run_s_own_predictions_give_the_run_s_own_numbers(run, cache):
    small = ["scale=smoke", "dataset.limit.test=3", "trainer.progress=false", "frames=none"]
    first = run(*small, recipe="zero_shot")
    again = run(f"predictions={first / 'predictions' / 'zero_shot.jsonl'}")
    assert values(again, "zero_shot") == values(first, "zero_shot")


def test_answers_stand_in_the_order_of_the_references_with_their_contexts(write):
    predictions = [{"id": "b", "response": "B", "context": "from b"}, {"id": "a", "response": "A", "context": "not this"}]
    (answers,) = read_systems([write("p.jsonl", predictions)], write("r.jsonl", REFERENCES)).values()
    assert [(answer.response, answer.reference, answer.context) for answer in answers] == [
        ("A", "How do you feel?", "I failed."),
        ("B", "I see.", "from b"),
    ]
    assert [answer.well_formed for answer in answers] == [None, None]


def test_files_of_one_name_are_told_apart_by_their_folders(write):
    rows = [{"id": "a", "response": "x", "reference_response": "y"}]
    files = [write("one/sft.jsonl", rows), write("two/sft.jsonl", rows), write("grpo.jsonl", rows)]
    names = list(read_systems(files, None))
    assert [name.rpartition("/")[2] for name in names] == ["sft", "sft", "grpo"]
    assert "one" in names[0]
    assert names[2] == "grpo"


GOOD = {"id": "a", "response": "x"}
MISTAKES = {
    "no JSON": (["{broken"], "p.jsonl:1: no JSON"),
    "no object": (["[1]"], "p.jsonl:1: no object"),
    "no id": ([{"response": "x"}], 'p.jsonl:1: no "id"; a line needs id and response'),
    "no response": ([GOOD, "", {"id": "b"}], 'p.jsonl:3: no "response"'),
    "another kind": ([{"id": 3, "response": "x"}], 'p.jsonl:1: "id" is 3; write a text'),
    "no truth": ([{**GOOD, "well_formed": "yes"}], 'p.jsonl:1: "well_formed" is "yes"; write true or false'),
    "repeated": ([GOOD, {"id": "b", "response": "x"}, GOOD], r"p.jsonl:3: id a stands there again, after \S+p.jsonl:1"),
    "unknown": ([GOOD, {"id": "b", "response": "x"}, {"id": "z", "response": "x"}], r"p.jsonl:3: id z is not in \S+r.jsonl"),
    "missing": ([GOOD], r"p.jsonl: no line for id b \(\S+r.jsonl:2\); add it"),
    "empty": ([], "p.jsonl: no lines"),
}


@pytest.mark.parametrize(("rows", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_a_file_is_one_line_that_names_it(write, rows, said):
    with pytest.raises(ScoreError, match=said) as caught:
        read_systems([write("p.jsonl", rows)], write("r.jsonl", REFERENCES))
    assert "\n" not in str(caught.value)


def test_without_references_the_predictions_must_bring_the_same_ones(write):
    own = [{"id": "a", "response": "x", "reference_response": "y"}]
    first = write("first.jsonl", own)
    with pytest.raises(ScoreError, match=r'p.jsonl:1: no "reference_response" of its own; write references=<file>'):
        read_systems([write("p.jsonl", [GOOD])], None)
    with pytest.raises(ScoreError, match=r"p.jsonl:1: another reference_response than \S+first.jsonl:1; write references="):
        read_systems([first, write("p.jsonl", [{**own[0], "reference_response": "z"}])], None)
    with pytest.raises(ScoreError, match=r"p.jsonl:1: id b is not in \S+first.jsonl"):
        read_systems([first, write("p.jsonl", [{**own[0], "id": "b"}])], None)


def test_files_that_cannot_be_read_are_one_line(write, tmp_path):
    with pytest.raises(ScoreError, match=r"gone.jsonl: No such file or directory; name a .jsonl file"):
        read_systems([str(tmp_path / "gone.jsonl")], None)
    (tmp_path / "latin.jsonl").write_bytes('{"id": "a", "response": "é"}'.encode("latin-1"))
    with pytest.raises(ScoreError, match=r"latin.jsonl: no UTF-8 at byte 25; save it as UTF-8"):
        read_systems([str(tmp_path / "latin.jsonl")], None)
    file = write("p.jsonl", [GOOD])
    with pytest.raises(ScoreError, match="a file stands there twice"):
        read_systems([file, file], write("r.jsonl", [GOOD]))
