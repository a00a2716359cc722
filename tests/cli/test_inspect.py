"""`fires-exp inspect`: facts of a dataset, printed, and written only where `output` asks for it."""

import json

from fires_exp.cli.inspect import main

SMALL = ["backbone=tiny", "frames.max_frames=2", "dataset.limit.train=8", "dataset.limit.val=2", "dataset.limit.test=3"]


def test_inspect_prints_and_writes_the_facts(tmp_path, cache, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [*SMALL, f"paths.cache={cache}", "trainer.progress=false"]
    assert main(arguments) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["instances"] == {"train": 8, "val": 2, "test": 3}
    assert facts["prompt_tokens"]["max"] > facts["prompt_tokens"]["mean"] > 100
    assert facts["frames_an_instance"]["max"] == 2
    assert not list(tmp_path.iterdir())
    assert main([*arguments, "output=facts"]) == 0
    assert json.loads((tmp_path / "facts" / "inspect.json").read_text()) == facts


def test_skipped_rows_are_listed_in_the_output_folder(tmp_path, cache, capsys):
    turns = [{"speaker": "seeker", "text": "I failed."}, {"speaker": "supporter", "text": "I see."}]
    good = {"id": "c1", "split": "train", "turns": turns}
    data = tmp_path / "data.jsonl"
    data.write_text(json.dumps(good) + "\nno json\n")
    overrides = ["dataset=jsonl", f"dataset.root={data}", "dataset.on_bad_row=skip", f"output={tmp_path / 'facts'}"]
    assert main(["backbone=tiny", "trainer.progress=false", f"paths.cache={cache}", *overrides]) == 0
    (row,) = map(json.loads, (tmp_path / "facts" / "bad_rows.jsonl").read_text().splitlines())
    assert row["line"] == 2
    assert json.loads(capsys.readouterr().out)["bad_rows"] == 1
