"""Sweeps whose jobs run in parallel, here or on nodes: stages are computed once, and a failed job does not stop the others."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from fires_exp.cli import train
from fires_exp.cli.optimized_metric import read_optimized_metric
from fires_exp.errors import ConfigError, FiresError

TINY = [
    "+experiment=smoke", "trainer.progress=false", "grpo.max_steps=1", "sft.max_steps=1",
    "dataset.limit.train=4", "dataset.limit.val=2", "dataset.limit.test=2",
]  # fmt: skip
TRAIN_ALONE = ["recipe.stages=[synthesize,sft]", "recipe.policies=[]"]
# submitit starts a local job before it makes the job's own folder, which a busy machine shows
ONE_LOG_FOLDER = "hydra.launcher.submitit_folder=sweep/.submitit"
NUMBERED = ["hydra.sweep.dir=sweep", "hydra.sweep.subdir=${hydra.job.num}"]


@pytest.fixture
def sweep(tmp_path, cache):
    """Run `python -m fires_exp -m` in an empty folder; gives the finished process."""

    def run(*overrides):
        return subprocess.run(
            [sys.executable, "-m", "fires_exp", "-m", *TINY, *overrides],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "FIRES_EXP_CACHE": str(cache)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def stages(folder):
    """(stage, key) -> how often it was computed, over the finished jobs of a sweep."""
    counts = {}
    for record in folder.glob("*/run.json"):
        for stage in json.loads(record.read_text())["stages"]:
            name = stage["stage"], stage["key"]
            counts[name] = counts.get(name, 0) + (not stage["reused"])
    return counts


@pytest.mark.parametrize(
    "launcher", [["joblib", "hydra.launcher.n_jobs=3"], ["submitit_local", ONE_LOG_FOLDER]], ids=lambda launcher: launcher[0]
)
def test_parallel_jobs_compute_each_stage_once_and_a_failed_one_does_not_stop_the_others(sweep, tmp_path, launcher):
    done = sweep(f"hydra/launcher={launcher[0]}", *launcher[1:], *TRAIN_ALONE, "metrics.confidence=0.9,0.95,2", *NUMBERED)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "\nfires_exp: metrics.confidence=2" in done.stderr
    records = [json.loads((tmp_path / "sweep" / number / "run.json").read_text()) for number in "01"]
    assert [record["status"] for record in records] == ["finished"] * 2
    counts = stages(tmp_path / "sweep")
    assert sorted((stage, made) for (stage, _), made in counts.items()) == [("sft", 1), ("thoughts", 1)]


def test_optuna_optimizes_the_validation_metric_and_continues_from_earlier_trials(sweep, tmp_path):
    overrides = ["+sweep=reward_weights", "reward.support_skill_weight=0", "metrics.include=[bleu_2]", *NUMBERED]
    first = sweep(*overrides, "hydra.sweeper.n_trials=1")
    assert first.returncode == 0, first.stderr
    assert "Warning" not in first.stderr
    made = stages(tmp_path / "sweep")
    assert set(made.values()) == {1}
    assert sweep(*overrides, "hydra.sweeper.n_trials=2").returncode == 0
    tables = [json.loads((tmp_path / "sweep" / number / "metrics.json").read_text()) for number in "01"]
    assert [(table["split"], list(table["policies"])) for table in tables] == [("val", ["grpo"])] * 2
    best = yaml.safe_load((tmp_path / "sweep" / "optimization_results.yaml").read_text())
    assert best["best_value"] == max(read_optimized_metric(tmp_path / "sweep" / number, "BLEU-2") for number in "01")
    assert set(best["best_params"]) == {"reward.format_weight"}
    counts = stages(tmp_path / "sweep")
    assert {stage: counts[stage] for stage in made} == dict.fromkeys(made, 0)
    assert sorted(stage for stage, _ in counts.keys() - made.keys()) == ["grpo", "predictions"]


def test_a_mistake_ends_a_search_after_its_first_trials_in_one_line_each(sweep):
    done = sweep("+sweep=reward_weights", "grpo.beta=-1", *NUMBERED)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\nfires_exp: grpo.beta=-1") == 3  # two trials, and the sweep's end


@pytest.fixture
def run_folder(tmp_path):
    def row(name, direction, value):
        return {"name": name, "direction": direction, "value": value}

    policies = {
        "zero_shot": [row("BLEU-2", "higher", 1.5)],
        "grpo": [row("BLEU-2", "higher", 2.5), row("DIFF-EPITOME", "lower", 0.75), row("tokens", "none", 60.0)],
    }
    (tmp_path / "metrics.json").write_text(json.dumps({"policies": policies}))
    return tmp_path


def test_the_last_policy_s_metric_is_negated_where_lower_is_better(run_folder):
    assert read_optimized_metric(run_folder, "BLEU-2") == 2.5
    assert read_optimized_metric(run_folder, "DIFF-EPITOME") == -0.75


@pytest.mark.parametrize("metric", ["METEOR", "tokens"])
def test_a_metric_without_a_direction_is_refused_with_those_that_have_one(run_folder, metric):
    with pytest.raises(ConfigError, match=rf"^optimized_metric={metric}: .* write one of BLEU-2, DIFF-EPITOME$"):
        read_optimized_metric(run_folder, metric)


def test_a_run_without_a_table_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"^optimized_metric=BLEU-2: .*metrics\.json"):
        read_optimized_metric(tmp_path, "BLEU-2")


@pytest.mark.parametrize(
    ("status", "reason"),
    [(None, ""), ("running", ""), ("ScoreError: no scorer", " (ScoreError: no scorer)")],
    ids=["before it began", "killed", "with a reason"],
)
def test_a_failed_job_gives_its_own_reason_and_not_that_of_an_earlier_run(run_folder, monkeypatch, status, reason):
    record = run_folder / "run.json"
    record.write_text(json.dumps({"status": "DataError: of an earlier run"}))

    def job(command, *, check):
        if status:
            record.write_text(json.dumps({"status": status}))
        return subprocess.CompletedProcess(command, -9)

    monkeypatch.setattr(train.subprocess, "run", job)
    with pytest.raises(FiresError) as failure:
        train._run_in_sweep(None, run_folder)
    assert str(failure.value) == f"the job in {run_folder} ended with status -9{reason}"


def test_an_interrupted_sweep_prints_in_one_line_how_to_continue(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "compose_and_start", interrupted)
    monkeypatch.setattr(sys, "argv", ["fires_exp", "-m"])
    assert train.main(["-m"]) == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert "hydra.sweep.dir=" in line
