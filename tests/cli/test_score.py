"""`fires-exp score`: files to a table, a page only where `output` asks for one, and no run folder."""

import json

import pytest
from trained_run import composed

from fires_exp.cli.score import main
from fires_exp.config.load import write_yaml
from fires_exp.pipeline.run import run_recipe

REFERENCES = [{"id": "a", "response": "How do you feel?", "context": "I failed."}, {"id": "b", "response": "I see."}]


@pytest.fixture
def write(tmp_path):
    """Write rows into a file and give its path."""

    def rows_to(name, rows):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    return rows_to


@pytest.fixture
def score(tmp_path, cache, monkeypatch):
    """Run the command with small metrics in an empty folder; gives its exit code."""
    monkeypatch.chdir(tmp_path)

    def run(*overrides):
        return main(["metrics=tiny", "epitome/encoder=tiny", "epitome.epochs=1", f"paths.cache={cache}", *overrides])

    return run


def values(folder, system):
    return {row["name"]: row["value"] for row in json.loads((folder / "metrics.json").read_text())["policies"][system]}


def test_files_become_a_table_with_intervals_and_p_values(score, write, tmp_path, capsys):
    copy = write("copy.jsonl", [{"id": row["id"], "response": row["response"]} for row in REFERENCES])
    other = write("other.jsonl", [{"id": "b", "response": "No."}, {"id": "a", "response": ""}])
    references = write("refs.jsonl", REFERENCES)
    assert score(f"predictions=[{copy},{other}]", f"references={references}", "output=scores/new") == 0
    folder = tmp_path / "scores" / "new"
    assert values(folder, "copy")["BLEU-2"] == 100.0
    assert values(folder, "other")["Response words"] == 0.5
    table = json.loads((folder / "metrics.json").read_text())
    assert (table["instances"], table["predictions"]) == (2, {"copy": copy, "other": other})
    assert {(row["first"], row["second"]) for row in table["comparisons"]} == {("copy", "other")}
    output = capsys.readouterr().out
    assert "100.00* [100.0, 100.0]" in output
    assert "other vs copy" in output
    page = (folder / "report.html").read_text()
    assert "other − copy" in page
    assert "did not finish" not in page
    assert "smollm2_vl" not in page, "no model answered"
    assert sorted(path.name for path in folder.iterdir()) == ["metrics.json", "report.html"]
    assert not (tmp_path / "artifacts").exists()


def test_without_output_only_the_table_is_printed(score, write, tmp_path, capsys):
    file = write("p.jsonl", [{**row, "reference_response": row["response"]} for row in REFERENCES[1:]])
    before = set(tmp_path.iterdir())
    assert score(f"predictions={file}", "metrics.include=[bleu_2]") == 0
    assert "BLEU-2" in capsys.readouterr().out
    assert set(tmp_path.iterdir()) == before


def test_a_run_s_own_predictions_give_the_run_s_own_numbers(score, tmp_path, cache):
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    config = composed(
        "recipe=zero_shot", "scale=smoke", "dataset.limit.test=3",
        "trainer.progress=false", "frames=none", f"paths.cache={cache}", f"paths.artifacts={tmp_path / 'artifacts'}",
    )  # fmt: skip
    write_yaml(config, run_folder / "resolved.yaml")
    run_recipe(config, run_folder)
    assert score(f"predictions={run_folder / 'predictions' / 'zero_shot.jsonl'}", "output=again") == 0
    assert values(tmp_path / "again", "zero_shot") == values(run_folder, "zero_shot")


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ([], "predictions"),
        (["predictions=3"], "predictions=3"),
        (["predictions=[]"], "predictions=[]"),
        (["predictions=gone.jsonl"], "gone.jsonl"),
        (["predictions=gone.jsonl", "adapter=runs/demo"], "adapter"),
        (["predictions=gone.jsonl", "trainer=ddp"], "trainer.strategy=ddp"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(score, tmp_path, capsys, overrides, key):
    assert score(*overrides) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fires_exp: {key}")
    assert not list(tmp_path.iterdir())


def test_the_table_of_a_run_is_not_overwritten(score, write, tmp_path, capsys):
    (tmp_path / "run.json").write_text("{}")
    file = write("p.jsonl", [{"id": "a", "response": "x", "reference_response": "y"}])
    assert score(f"predictions={file}", "metrics.include=[bleu_2]", f"output={tmp_path}") == 2
    assert f"output={tmp_path}" in capsys.readouterr().err
    assert not (tmp_path / "metrics.json").exists()
