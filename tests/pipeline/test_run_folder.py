"""The run folder is current at any moment: while a stage runs, after an interrupt, after an error."""

import json

import pytest
from trained_run import SMALL, composed

from fires_exp.config.load import write_yaml
from fires_exp.errors import ExhaustedError
from fires_exp.grpo.module import GrpoModule
from fires_exp.pipeline import run_folder as run_folders
from fires_exp.pipeline.run import run_recipe
from fires_exp.training.loggers.run_folder import RunFolderLogger


@pytest.fixture
def start(tmp_path, cache, monkeypatch):
    """A function that runs the default recipe in `tmp_path/run`, where every step refreshes the page."""
    monkeypatch.setattr(run_folders, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(run_folders, "REFRESH_SHARE", 1e9)

    def run(*overrides):
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        config = composed(
            *SMALL, "dataset.limit.train=8", f"paths.artifacts={tmp_path / 'artifacts'}", f"paths.cache={cache}", *overrides
        )
        write_yaml(config, folder / "resolved.yaml")
        run_recipe(config, folder)
        return folder

    return run


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def states(folder):
    return {stage["label"]: stage["state"] for stage in json.loads((folder / "run.json").read_text())["stages"]}


def test_steps_samples_and_page_are_there_while_grpo_runs(start, tmp_path, monkeypatch):
    folder, seen = tmp_path / "run", []
    save = RunFolderLogger.save

    def look(self):
        save(self)
        page = (folder / "report.html").read_text()
        steps = [(row["stage"], row["step"]) for row in rows(folder / "metrics.jsonl")]
        seen.append((steps, states(folder), "http-equiv" in page, (folder / "completions.jsonl").exists()))

    monkeypatch.setattr(RunFolderLogger, "save", look)
    start()
    steps, stages, refreshes, samples = seen[-1]
    assert steps == [("sft", 0), ("sft", 1), ("grpo", 0), ("grpo", 1)]
    assert (stages["sft"], stages["grpo"], stages["predictions of grpo"]) == ("finished", "running", "waiting")
    assert refreshes
    assert samples
    assert "http-equiv" not in (folder / "report.html").read_text(), "a finished run's page does not reload itself"


@pytest.mark.parametrize(
    ("error", "caught", "status"),
    [(KeyboardInterrupt(), KeyboardInterrupt, "KeyboardInterrupt"), (MemoryError(), ExhaustedError, "memory")],
)
def test_a_run_that_ends_early_leaves_its_steps_its_samples_and_the_reason(start, tmp_path, monkeypatch, error, caught, status):
    folder = tmp_path / "run"
    update = GrpoModule._update

    def fail(self, *args, **kwargs):
        if self.steps_done == 1:
            raise error
        return update(self, *args, **kwargs)

    monkeypatch.setattr(GrpoModule, "_update", fail)
    with pytest.raises(caught):
        start()
    assert [(row["stage"], row["step"]) for row in rows(folder / "metrics.jsonl")] == [("sft", 0), ("sft", 1), ("grpo", 0)]
    assert {row["step"] for row in rows(folder / "completions.jsonl")} == {0}
    assert states(folder)["grpo"] == "failed"
    page = (folder / "report.html").read_text()
    assert status in page
    assert "Loss" in page


@pytest.mark.filterwarnings("ignore:Experiment logs directory")  # of the CSV logger; logs/ is kept
def test_a_continued_run_shows_each_step_once(start, tmp_path, monkeypatch):
    update, fails = GrpoModule._update, [True]

    def fail_once(self, *args, **kwargs):
        if self.steps_done == 1 and fails.pop():
            raise KeyboardInterrupt
        return update(self, *args, **kwargs)

    monkeypatch.setattr(GrpoModule, "_update", fail_once)
    with pytest.raises(KeyboardInterrupt):
        start("grpo.checkpoint_every_steps=1")
    fails.append(False)
    folder = start("grpo.checkpoint_every_steps=1")
    assert [(row["stage"], row["step"]) for row in rows(folder / "metrics.jsonl")] == [
        ("sft", 0), ("sft", 1), ("grpo", 0), ("grpo", 1),
    ]  # fmt: skip
    samples = rows(folder / "completions.jsonl")
    assert len(samples) == len({json.dumps(row) for row in samples})
    assert {row["step"] for row in samples} == {0, 1}
