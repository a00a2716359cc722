"""`run.json` from the start of a run to its end."""

import json
from dataclasses import replace

import pytest
from hydra import compose, initialize_config_module

from fires_exp.config.load import load_config, register_schema
from fires_exp.report.run_record import RunRecord, StageProgress, StageState

PLAN = (
    StageProgress(stage="sft", label="sft", key="1115", folder="artifacts/sft/1115"),
    StageProgress(stage="predictions", label="predictions of sft"),
)


@pytest.fixture(scope="module")
def config():
    register_schema()
    with initialize_config_module("fires_exp.conf", version_base="1.3"):
        return load_config(compose("config", overrides=["seed=43"]))


@pytest.fixture
def record(tmp_path, config):
    return RunRecord.start(tmp_path, config, PLAN)


@pytest.fixture
def read(tmp_path):
    return lambda: json.loads((tmp_path / "run.json").read_text())


def states(facts):
    return [stage["state"] for stage in facts["stages"]]


def test_every_planned_stage_is_in_the_record_from_the_start(record, read):
    facts = read()
    assert (facts["status"], facts["seed"]) == ("running", 43)
    assert facts["started"] <= facts["updated"]
    assert facts["stages"][0] == {
        "stage": "sft",
        "label": "sft",
        "key": "1115",
        "folder": "artifacts/sft/1115",
        "state": "waiting",
        "reused": False,
        "started": None,
        "seconds": None,
    }
    assert [stage["label"] for stage in facts["stages"]] == ["sft", "predictions of sft"]


def test_each_change_of_a_stage_is_written_at_once(record, read):
    record.update_stage(0, StageState.REUSED, seconds=1470.52)
    record.update_stage(1, StageState.RUNNING)
    sft, predictions = read()["stages"]
    assert (sft["state"], sft["reused"], sft["seconds"], sft["key"]) == ("reused", True, 1470.5, "1115")
    assert (predictions["state"], predictions["reused"], predictions["started"] is not None) == ("running", False, True)
    record.update_stage(1, StageState.FINISHED, seconds=60, key="76df", folder="artifacts/predictions/76df")
    predictions = read()["stages"][1]
    assert (predictions["state"], predictions["key"], predictions["folder"]) == ("finished", "76df", "artifacts/predictions/76df")
    assert predictions["started"] is not None


def test_the_state_may_be_given_as_its_name(record, read):
    record.update_stage(0, "running")
    assert states(read()) == ["running", "waiting"]
    with pytest.raises(ValueError, match="done"):
        record.update_stage(0, "done")


def test_a_plan_that_is_known_later_replaces_the_first(tmp_path, config, read):
    record = RunRecord.start(tmp_path, config)
    assert read()["stages"] == []
    record.plan([replace(PLAN[0], state=StageState.RUNNING)])
    assert states(read()) == ["running"]


def test_a_fact_is_written_when_it_is_known(record, read):
    record.note("estimate", {"disk": 3})
    record.update_stage(0, StageState.RUNNING)
    assert read()["estimate"] == {"disk": 3}


def test_a_finished_run_has_its_duration_and_memory(record, read):
    record.update_stage(0, StageState.FINISHED, seconds=2)
    record.finish()
    facts = read()
    assert facts["status"] == "finished"
    assert facts["seconds"] >= 0
    assert facts["peak_memory_bytes"] > 1e6
    assert states(facts) == ["finished", "waiting"]  # recorded as given: a finished run leaves no stage for the record to guess


def test_an_error_fails_the_stage_under_way_and_leaves_the_next_ones_waiting(record, read):
    record.update_stage(0, StageState.RUNNING)
    record.finish("TrainingError: the loss is nan")
    facts = read()
    assert facts["status"] == "TrainingError: the loss is nan"
    assert states(facts) == ["failed", "waiting"]


def test_a_secret_in_an_error_is_not_written(record, read, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1234567890abcdef")
    record.finish("ServiceError: the key sk-1234567890abcdef was refused")
    assert "sk-1234567890abcdef" not in json.dumps(read())
