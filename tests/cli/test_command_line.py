"""What a user meets: one line for a mistake, a run folder, a sweep of processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

SMALL = ["+experiment=smoke", "trainer.progress=false", "dataset.limit.train=4", "dataset.limit.test=2"]


@pytest.fixture
def fires(tmp_path, cache):
    """`python -m fires_exp` in an empty folder; gives the finished process."""

    def run(*overrides):
        return subprocess.run(
            [sys.executable, "-m", "fires_exp", *overrides, f"paths.cache={cache}"],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["dataset=mesc"], "dataset.root"),
        (["dataset=mesc", "dataset.root=/no/such/folder"], "dataset.root=/no/such/folder "),
        (["+reward.skil=0"], "skil"),
        (["grpo.beta=-1"], "grpo.beta=-1"),
        (["grpo.num_generations=1"], "a group needs at least 2"),
        (["reward.support_skill.scorer=./nowhere"], "nowhere is no scorer"),
        (["epitome.data=./nowhere"], "epitome.data=nowhere "),
        (["recipe=score"], "recipe=score and predictions=<file> go together"),
        (["recipe=score", "predictions=gone.jsonl"], "gone.jsonl: No such file or directory; name a .jsonl file"),
        (["trainer=gpu", "recipe=zero_shot"], "choose trainer=cpu"),
        (["backbone=qwen2_5_vl_7b", "backbone.path=./nowhere", "recipe=zero_shot"], "backbone.path=./nowhere"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_write(fires, overrides, said):
    done = fires(*overrides)
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("fires_exp: ")]
    assert len(lines) == 1
    assert said in lines[0]
    assert "Traceback" not in done.stderr


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


def test_hydra_refuses_an_unknown_key_and_an_unknown_option(fires):
    for override in ("grpo.betta=1", "reward=none_such"):
        done = fires(override)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert override.split("=")[1 if "reward" in override else 0].split(".")[-1] in done.stderr


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
    assert "sweep/0 ended with status 2 (BackboneError: nowhere is no scorer" in done.stderr
    assert json.loads((tmp_path / "sweep" / "1" / "run.json").read_text())["status"] == "finished"


def test_an_interrupt_ends_with_the_way_to_go_on(tmp_path, cache):
    places = [
        f"paths.cache={cache}",
        "hydra.run.dir=run",
        "sft.max_steps=2000",
        "sft.epochs=1000",
        "sft.checkpoint_every_steps=1",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "fires_exp", *SMALL, *places],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(tmp_path.glob("artifacts/sft/*/checkpoints/step-*.ckpt")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == f"fires_exp: interrupted; go on with: python -m fires_exp.cli.job {tmp_path / 'run'}"
    assert "Traceback" not in said
    assert "KeyboardInterrupt" in json.loads((tmp_path / "run" / "run.json").read_text())["status"]
    assert list(tmp_path.glob("artifacts/sft/*/checkpoints/step-*.ckpt"))
