"""A sweep runs the rows of a table, shares their stages, continues after a failure and runs only what is missing."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from fires_exp.cli.sweep import main, plan, summary, sweep
from fires_exp.config.load import register_schema
from fires_exp.errors import ConfigError
from fires_exp.paper.spec import read_experiment
from fires_exp.paper.table import make_table

ROOT = Path(__file__).resolve().parents[2]
SMALL = [
    "dataset.limit.train=4", "dataset.limit.val=2", "dataset.limit.test=2", "grpo.max_steps=1", "sft.max_steps=1",
    "metrics.include=[bleu_2]", "reward.support_skill_weight=0",
]  # fmt: skip


@pytest.fixture
def table(tmp_path):
    """Two rows that differ in GRPO alone, and one between them that can't run."""
    folder = tmp_path / "experiments" / "table"
    folder.mkdir(parents=True)
    rows = [("FIRES", "fires"), ("GPT-4o", "gpt_4o_3shot"), ("beta = 0", "beta_0")]
    (folder / "runs.yaml").write_text(yaml.safe_dump([{"row": row, "experiment": name} for row, name in rows]))
    return folder


@pytest.fixture
def runs(table, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    plain, *others = plan(table, "smoke", [42], [*SMALL, f"paths.artifacts={tmp_path / 'artifacts'}"], tmp_path / "runs")
    return [plain, *(replace(run, hydra_overrides=("hydra/launcher=joblib",)) for run in others)]


def test_parallel_runs_share_their_stages_and_a_failed_one_does_not_stop_the_others(runs):
    first = sweep(runs, parallel=3)
    assert [bool(result.failure) for result in first] == [False, True, False]
    assert "OPENAI_API_KEY" in first[1].failure
    computed = [key for result in first for key in result.computed]
    assert len(computed) == len(set(computed))  # each stage once, by whichever run came first
    shared = [key for result in (first[0], first[2]) for key in result.computed + result.reused if key.startswith("sft/")]
    assert len(shared) == 2
    assert len(set(shared)) == 1
    assert sum(key.startswith("grpo/") for key in computed) == 2
    assert (
        summary(first).splitlines()[-1]
        == f"stages: {len(computed)} computed, {sum(len(result.reused) for result in first)} reused; runs: 2 of 3 finished"
    )
    for run in (runs[0], runs[2]):
        assert json.loads((run.folder / "metrics.json").read_text())
        assert run.is_finished
    again = sweep(runs, parallel=1)
    assert [result.started for result in again] == [False, True, False]
    assert summary(again).splitlines()[-1] == "stages: 0 computed, 0 reused; runs: 2 of 3 finished"
    assert not replace(runs[0], overrides=(*runs[0].overrides, "seed=1")).is_finished


def test_a_row_s_seeds_are_runs_of_their_own_and_one_cell_of_the_report(table, tmp_path, capsys):
    (table / "runs.yaml").write_text("- {row: w/o RL, experiment: wo_rl}\n")
    arguments = [str(table), "--scale", "smoke", "--seeds", "42,43", "--jobs", "2", "--out", str(tmp_path / "runs")]
    light = ["metrics.include=[distinct_3]", "recipe.policies=[sft]"]  # no scorer to train, nothing answered before training
    assert main([*arguments, *SMALL, *light, f"paths.artifacts={tmp_path / 'artifacts'}"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("runs: 2 of 2 finished")
    scale_folder = tmp_path / "runs" / "table" / "smoke"
    tables = [json.loads((scale_folder / "wo_rl" / f"seed_{seed}" / "metrics.json").read_text()) for seed in (42, 43)]
    first, second = (
        next(row["value"] for row in of["policies"]["sft"] if row["name"] == "Distinct-3 (per response)") for of in tables
    )
    assert first != second
    of_runs = make_table(read_experiment(table), scale_folder, None)
    (row,) = of_runs.rows
    (cell,) = (cell for column, cell in zip(of_runs.columns, row.cells, strict=True) if column.name == "Dist-3")
    assert [run.seed for run in row.runs] == [42, 43]
    assert cell.value == pytest.approx((first + second) / 2)
    assert cell.scatter == f"± {abs(first - second) / 2**0.5:.2f}"  # of two, the sample deviation


def test_unknown_folders_and_scales_are_named(table, tmp_path, capsys):
    with pytest.raises(ConfigError, match=r"no runs.yaml"):
        plan(tmp_path, "smoke", [42], [], tmp_path)
    with pytest.raises(ConfigError, match=r"--scale huge: .*demo, paper, smoke"):
        plan(table, "huge", [42], [], tmp_path)
    assert main([str(table), "--scale", "smoke", "--seeds", "4x"]) == 2
    assert capsys.readouterr().err.startswith("fires_exp: --seeds 4x")


def test_every_row_of_every_table_composes_at_the_demo_scale_with_its_ablation_intact(tmp_path):
    register_schema()
    with initialize_config_module("fires_exp.conf", version_base="1.3"):
        for runs in sorted((ROOT / "experiments").glob("*/runs.yaml")):
            for job in plan(runs.parent, "demo", [42], [], tmp_path):
                scaled, alone = compose("config", list(job.overrides)), compose("config", [job.overrides[0]])
                for group in ("aspects", "recipe", "reward", "baseline", "trained_baseline", "teacher", "test_dataset"):
                    assert scaled[group] == alone[group], (job.experiment, group)
                for leaf in ("frames.name", "sft.fraction", "grpo.beta"):
                    assert OmegaConf.select(scaled, leaf) == OmegaConf.select(alone, leaf), (job.experiment, leaf)
                assert job.folder == tmp_path / runs.parent.name / "demo" / job.experiment / "seed_42"


def test_a_launcher_starts_each_row_by_itself_and_does_not_decide_what_a_run_is(table, tmp_path):
    extra = ["hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=600", "dataset.limit.test=2"]
    (launched, *_), (plain, *_) = plan(table, "smoke", [42], extra, tmp_path), plan(table, "smoke", [42], extra[2:], tmp_path)
    assert launched.overrides == plain.overrides
    folder = tmp_path / "table" / "smoke" / "fires" / "seed_42"
    begin = [sys.executable, "-m", "fires_exp"]
    assert launched.command == [
        *begin, "-m", f"hydra.sweep.dir={folder}", "hydra.sweep.subdir=.", *launched.overrides, *extra[:2]
    ]  # fmt: skip
    assert plain.command == [*begin, f"hydra.run.dir={folder}", *plain.overrides]
