"""Whole runs in two processes over gloo: the same as in one, whatever ends a process in between."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

# batches that two ranks can't share evenly, the last of an epoch smaller than the number of ranks
OVERRIDES = [
    "+experiment=smoke", "aspects=no_thought", "trainer.progress=false",
    "recipe.stages=[sft,grpo,evaluate]", "recipe.policies=[grpo]",
    "frames.max_frames=1", "dataset.limit.train=7", "dataset.limit.val=3", "dataset.limit.test=5",
    "sft.epochs=2", "sft.max_steps=6", "sft.batch_size=3", "sft.validate_every_steps=3", "sft.checkpoint_every_steps=2",
    "grpo.epochs=2", "grpo.max_steps=6", "grpo.batch_size=3", "grpo.checkpoint_every_steps=2", "grpo.updates_per_rollout=2",
    "predict.batch_size=2", "metrics.include=[rouge_l]",
]  # fmt: skip
TWO = ["trainer=ddp", "trainer.accelerator=cpu"]


def start(folder, cache, *overrides):
    places = [f"paths.artifacts={folder / 'artifacts'}", f"paths.cache={cache}", f"hydra.run.dir={folder / 'run'}"]
    command = [sys.executable, "-m", "fires_exp", *OVERRIDES, *places, *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for(process, folder, stage, steps):
    """Until a stage has logged so many steps."""
    while sum(len(path.read_text().splitlines()) for path in (folder / "artifacts" / stage).glob("*/metrics.jsonl")) < steps:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)


def children(process):
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def outcome(folder, stage):
    (done,) = (folder / "artifacts" / stage).glob("*/done.json")
    rows = [json.loads(line) for line in (done.parent / "metrics.jsonl").read_text().splitlines()]
    timeless = [{name: value for name, value in row.items() if not name.startswith("speed/")} for row in rows]
    return load_file(done.parent / "adapter" / "adapter_model.safetensors"), timeless


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_two_ranks_that_are_stopped_and_then_lose_one_end_as_one_process_does(tmp_path, cache):
    one, two = tmp_path / "one", tmp_path / "two"
    _, said = (whole := start(one, cache)).communicate()
    assert whole.returncode == 0, said

    process = start(two, cache, *TWO)
    wait_for(process, two, "sft", 3)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 75
    step = int(said.splitlines()[-1].removeprefix("fires_exp: sft stopped after step ")[0])
    assert 3 <= step < 6

    process = start(two, cache, *TWO)
    wait_for(process, two, "grpo", 3)
    os.kill(children(process)[1], signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGKILL
    assert f"sft: continuing after step {step} of 6" in said
    assert said.splitlines()[-1].startswith("fires_exp: rank 1 was killed by SIGKILL")
    assert "Traceback" not in said

    _, said = (last := start(two, cache, *TWO)).communicate()
    assert last.returncode == 0, said
    assert "grpo: continuing after step " in said
    for stage in ("sft", "grpo"):
        (expected, rows), (found, others) = outcome(one, stage), outcome(two, stage)
        assert max(float((found[name] - weight).abs().max()) for name, weight in expected.items()) < 1e-5
        assert len(rows) == len(others)
        for row, other in zip(rows, others, strict=True):
            assert other == pytest.approx(row, rel=1e-4, abs=1e-5)
    texts = [
        (folder / "run" / name).read_text() for folder in (one, two) for name in ("completions.jsonl", "predictions/grpo.jsonl")
    ]
    assert texts[:2] == texts[2:]
    assert (two / "run" / "rank1.txt").read_text() == ""


@pytest.mark.slow
def test_a_mistake_is_told_once_and_by_its_own_status(tmp_path, cache):
    process = start(tmp_path, cache, *TWO, "prompt.max_tokens=64")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "Traceback" not in said
    assert [line for line in said.splitlines() if "fires_exp:" in line] == [said.splitlines()[-1]]
