"""A stage is declared once: one file and one line in `config/stages.py` make it part of plans, estimates, runs and reports."""

import json
import sys

import pytest
from trained_run import composed

from fires_exp.config.load import write_yaml
from fires_exp.config.stages import STAGES
from fires_exp.pipeline.planner import make_plan
from fires_exp.pipeline.run import run_recipe
from fires_exp.pipeline.run_folder import RunFolder

TOY = """
from dataclasses import dataclass
from typing import ClassVar

from fires_exp.pipeline.preflight.stage_estimate import StageEstimate
from fires_exp.pipeline.stage import Stage


@dataclass(frozen=True, kw_only=True, eq=False)
class ToyStage(Stage):
    name: ClassVar[str] = "toy"

    seed: int

    @classmethod
    def plan(cls, planner):
        planner.add(cls(artifacts=planner.artifacts, seed=planner.config.seed))

    def key_inputs(self):
        return {"seed": self.seed}

    def build(self, folder):
        (folder / "toy.txt").write_text(f"seed {self.seed}")

    def publish(self, artifact, run_folder):
        (run_folder / "toy.txt").write_text((artifact.folder / "toy.txt").read_text())

    def estimate(self, sizes):
        return StageEstimate(prompts=7)
"""


@pytest.fixture
def run_toy(tmp_path, monkeypatch):
    """A function that runs a recipe of the toy stage in a folder of its own."""
    (tmp_path / "toy_stage.py").write_text(TOY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(STAGES, "toy", "toy_stage:ToyStage")

    def run(name, *overrides):
        folder = tmp_path / name
        folder.mkdir()
        artifacts = f"paths.artifacts={tmp_path / 'artifacts'}"
        config = composed("scale=smoke", "recipe.stages=[toy]", "recipe.policies=[]", artifacts, *overrides)
        write_yaml(config, folder / "resolved.yaml")
        run_recipe(config, folder)
        return folder

    return run


def record(folder):
    return json.loads((folder / "run.json").read_text())


def test_a_new_stage_is_one_file_and_one_line(run_toy):
    first, second, other = run_toy("first"), run_toy("second"), run_toy("other", "seed=7")
    (stage,) = record(first)["stages"]
    assert (stage["stage"], stage["state"]) == ("toy", "finished")
    assert record(second)["stages"][0]["state"] == "reused"
    assert record(other)["stages"][0]["state"] == "finished"
    assert (second / "toy.txt").read_text() == "seed 42"
    assert record(first)["estimate"]["stages"]["toy"]["prompts"] == 7
    assert stage["key"] in (first / "report.html").read_text()


def test_a_plan_is_printed_and_nothing_is_built(run_toy, tmp_path, caplog):
    folder = run_toy("plan", "plan_only=true")
    assert record(folder)["stages"][0]["state"] == "waiting"
    assert not (tmp_path / "artifacts").exists()


def test_an_edit_of_the_new_file_changes_its_key(run_toy, tmp_path, monkeypatch):
    (before,) = record(run_toy("before"))["stages"]
    (tmp_path / "toy_stage.py").write_text(TOY.replace("seed {self.seed}", "SEED {self.seed}"))
    sys.modules.pop("toy_stage")
    (after,) = record(run_toy("after"))["stages"]
    assert (after["state"], after["key"] == before["key"]) == ("finished", False)


def test_the_plan_of_a_recipe_is_known_before_anything_is_built(tmp_path, cache):
    config = composed("scale=smoke", f"paths.artifacts={tmp_path / 'artifacts'}", f"paths.cache={cache}")
    planner = make_plan(config, RunFolder(tmp_path, config))
    assert [stage.label for stage in planner.stages] == [
        "epitome", "thoughts", "sft", "grpo", "predictions of zero_shot", "predictions of sft", "predictions of grpo",
    ]  # fmt: skip
    assert len({stage.key for stage in planner.stages}) == 7
    assert [stage.name for stage in planner.adapters["grpo"]] == ["sft", "grpo"]
    assert not (tmp_path / "artifacts").exists()


def test_a_stage_builds_on_the_keys_of_the_stages_before_it(tmp_path, cache):
    def keys(*overrides):
        config = composed("scale=smoke", f"paths.artifacts={tmp_path}", f"paths.cache={cache}", *overrides)
        return {stage.label: stage.key for stage in make_plan(config, RunFolder(tmp_path, config)).stages}

    before, beta, fraction = keys(), keys("grpo.beta=0.5"), keys("sft.fraction=0.5")
    assert {label for label in before if beta[label] != before[label]} == {"grpo", "predictions of grpo"}
    assert {label for label in before if fraction[label] != before[label]} == {
        "sft", "grpo", "predictions of sft", "predictions of grpo",
    }  # fmt: skip
