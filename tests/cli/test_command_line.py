"""The command line: one line for a mistake, a run folder, a sweep with one process for each job."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from fires_exp.cli.main import main

SMALL = ["+experiment=smoke", "trainer.progress=false", "dataset.limit.train=4", "dataset.limit.test=2"]


@pytest.fixture
def fires(tmp_path, cache):
    """Run `python -m fires_exp` in an empty folder; gives the finished process."""

    def run(*overrides):
        return subprocess.run(
            [sys.executable, "-m", "fires_exp", *overrides],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "FIRES_EXP_CACHE": str(cache)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Run `fires-exp` in this process, where it must end with code 2 and leave no file; gives its one line."""

    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["fires-exp", *arguments])
        assert main() == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert not list(tmp_path.iterdir())
        return line

    return run


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["dataset=mesc"], "dataset.root"),
        (["+reward.skil=0"], "reward.skil: unknown key"),
        (["grpo.betta=1"], "grpo.betta: unknown key; did you mean grpo.beta=1? docs/config.md"),
        (["beta=1"], "did you mean grpo.beta=1?"),
        (["rewrad=fires"], "did you mean reward=fires?"),
        (["reward=wo_support_skil"], "did you mean reward=wo_support_skill?"),
        (["+experiment=wo_situatoin"], "did you mean +experiment=wo_situation?"),
        (["+experment=wo_situation"], "did you mean +experiment=wo_situation?"),
        (["experiment=wo_situation"], "write +experiment=wo_situation"),
        (["grpo.beta=small"], "grpo.beta=small"),
        (["grpo.beta=-1"], "grpo.beta=-1"),
        (["grpo.num_generations=1"], "grpo.num_generations=1"),
        (["grpo.beta=0,1"], "-m"),
        (["grpo.beta"], "--help"),
        (["--mutirun"], "did you mean --multirun?"),
        (["-m", "+experiment=fires,fire"], "did you mean +experiment=fires?"),
        (["-m", "grpo.beta=0,small"], "grpo.beta=small"),
        (["hydra.run.dri=x"], "hydra.run.dri"),
        (["recipe=score", "predictions=gone.jsonl"], "fires-exp score"),
        (["predictions=gone.jsonl"], "fires-exp score"),
        (["recipe=export"], "fires-exp export"),
        (["export_folder=model"], "fires-exp export"),
        (["recipe=chat"], "fires-exp chat"),
        (["chat.web=true"], "fires-exp chat"),
        (["adapter=runs/demo"], "fires-exp export"),
        (["recipe=inspect"], "fires-exp inspect"),
        (["scor"], "scor: unknown command, did you mean score?"),
        (["score", "predictions=gone.jsonl"], "gone.jsonl"),
        (["inspect", "datset=mesc"], "did you mean dataset=mesc?"),
        (["export"], "adapter"),
        (["resume", "nowhere"], "nowhere/resolved.yaml"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key_or_the_nearest_name(refused, overrides, named):
    line = refused(*overrides)
    assert line.startswith("fires_exp: ")
    assert named in line


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["dataset=mesc", "dataset.root=/no/such/folder"], "/no/such/folder"),
        (["reward.support_skill.scorer=./nowhere"], "nowhere"),
        (["epitome.data=./nowhere"], "epitome.data="),
        (["trainer=gpu", "recipe=zero_shot"], "trainer=cpu"),
        (["backbone=qwen2_5_vl_7b", "backbone.path=./nowhere", "recipe=zero_shot"], "backbone.path=./nowhere"),
    ],
)
def test_a_mistake_that_a_run_meets_is_one_line_that_names_the_key(fires, overrides, named):
    done = fires(*overrides)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("fires_exp: ")]
    assert named in line
    assert "Traceback" not in done.stderr
    assert "HYDRA_FULL_ERROR" not in done.stderr


def test_help_has_examples_commands_recipes_and_experiments_and_needs_no_torch(fires):
    done = fires("--help")
    assert done.returncode == 0
    assert len(done.stdout.partition("\n\ncommands\n")[0].splitlines()) <= 14
    commands = ("score", "export", "chat", "inspect", "sweep", "report", "human-eval", "dashboards", "resume")
    for name in (*commands, "sft_then_grpo", "zero_shot", "wo_situation", "gpt_4o_3shot"):
        assert f"\n  {name} " in done.stdout
    code = "import sys, fires_exp.cli.main as main; sys.argv = ['fires-exp', '--help']; main.main()"
    code += "; assert not {'torch', 'hydra', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("command", "key"),
    [
        ("score", "predictions=(required)"),
        ("export", "output=null"),
        ("chat", "decoding.temperature=0.0"),
        ("inspect", "dataset="),
        ("sweep", "--seeds"),
        ("report", "--runs"),
        ("human-eval", "compare"),
        ("dashboards", "--project"),
        ("resume", "RUN_FOLDER"),
    ],
)
def test_a_command_s_help_lists_its_keys_and_leaves_no_file(fires, tmp_path, command, key):
    done = fires(command, "--help")
    assert done.returncode == 0
    assert key in done.stdout
    assert f"usage: fires-exp {command}" in done.stdout
    assert not list(tmp_path.iterdir())


def test_hydra_s_own_help_and_the_composed_configuration_are_still_there(fires, tmp_path):
    assert "--multirun" in fires("--hydra-help").stdout
    assert "name: wo_situation" in fires("+experiment=wo_situation", "--cfg", "job").stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "override", ["teacher.base_url=http://ann:correct-horse@127.0.0.1:9/v1", "+teacher.key=sk-0123456789abcdef"]
)
@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_a_secret_on_the_command_line_is_refused_before_anything_is_written(fires, tmp_path, override, sweep):
    done = fires(*sweep, *SMALL, override)
    assert done.returncode == 2
    assert done.stderr.startswith(f"fires_exp: {override.partition('=')[0]} holds a key or a password")
    assert "correct-horse" not in done.stderr
    assert "sk-0" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_sweep_starts_a_process_a_job_and_shares_stages(fires, tmp_path):
    done = fires("-m", *SMALL, "grpo.beta=0,0.04", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=${hydra.job.num}")
    assert done.returncode == 0, done.stderr
    records = [json.loads((tmp_path / "sweep" / str(number) / "run.json").read_text()) for number in range(2)]
    assert [record["status"] for record in records] == ["finished"] * 2
    assert [[stage["reused"] for stage in record["stages"] if stage["stage"] == "sft"] for record in records] == [[False], [True]]
    assert not (tmp_path / "__main__.log").exists()


def test_a_job_that_fails_does_not_stop_the_others_and_the_sweep_says_so(fires, tmp_path):
    done = fires(
        "-m", *SMALL, "reward.support_skill.scorer=nowhere,null", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=${hydra.job.num}"
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "HYDRA_FULL_ERROR" not in done.stderr
    assert "sweep/0 ended with status 2 (BackboneError: nowhere" in done.stderr
    assert json.loads((tmp_path / "sweep" / "1" / "run.json").read_text())["status"] == "finished"


def test_an_interrupted_run_prints_the_command_that_resumes_it(tmp_path, cache):
    overrides = [
        f"paths.cache={cache}",
        "hydra.run.dir=run",
        "sft.max_steps=2000",
        "sft.epochs=1000",
        "sft.checkpoint_every_steps=1",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "fires_exp", *SMALL, *overrides],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(tmp_path.glob("artifacts/sft/*/checkpoints/step-*.ckpt")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, output = process.communicate(timeout=60)
    assert process.returncode == 130
    assert output.splitlines()[-1] == f"fires_exp: interrupted; resume with: fires-exp resume {tmp_path / 'run'}"
    assert "Traceback" not in output
    assert "KeyboardInterrupt" in json.loads((tmp_path / "run" / "run.json").read_text())["status"]
    assert list(tmp_path.glob("artifacts/sft/*/checkpoints/step-*.ckpt"))
