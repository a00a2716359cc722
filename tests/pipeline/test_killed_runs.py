"""A run that is killed or told to stop goes on and ends with the weights of one that was not, bit for bit."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

OVERRIDES = [
    "+experiment=smoke", "aspects=no_thought", "trainer.progress=false",
    "recipe.stages=[synthesize,sft,grpo]", "recipe.policies=[]",
    "frames.max_frames=1", "dataset.limit.train=12",
    "sft.epochs=9", "sft.max_steps=8", "sft.checkpoint_every_steps=2", "sft.lora.dropout=0.3",
    "grpo.epochs=9", "grpo.max_steps=8", "grpo.checkpoint_every_steps=2", "grpo.updates_per_rollout=2", "grpo.lora.dropout=0.3",
    "health.window_steps=3",
]  # fmt: skip


def command(folder, cache, name, *overrides):
    places = [f"paths.artifacts={folder / 'artifacts'}", f"paths.cache={cache}", f"hydra.run.dir={folder / name}"]
    return [sys.executable, "-m", "fires_exp", *OVERRIDES, *places, *overrides]


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def steps_of(folder, stage):
    files = list((folder / "artifacts" / stage).glob("*/metrics.jsonl"))
    return len(files[0].read_text().splitlines()) if files else 0


def end_at(folder, cache, stage, steps, name, *overrides, by=signal.SIGKILL):
    """Start the run and send it a signal when a stage has logged so many steps; its status and what it said."""
    process = subprocess.Popen(
        command(folder, cache, name, *overrides), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while steps_of(folder, stage) < steps:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    process.send_signal(by)
    _, said = process.communicate(timeout=60)
    return process.returncode, said.splitlines()


def finish(folder, cache, name, *overrides, status=0):
    done = subprocess.run(
        command(folder, cache, name, *overrides), env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cache):
    """A run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    finish(folder, cache, "run")
    return folder


def outcome(folder, stage):
    """The adapter's bytes, and what was logged without the clock."""
    (place,) = (folder / "artifacts" / stage).glob("*/done.json")
    rows = [json.loads(line) for line in (place.parent / "metrics.jsonl").read_text().splitlines()]
    timeless = [{name: value for name, value in row.items() if not name.startswith("speed/")} for row in rows]
    return hashlib.sha256((place.parent / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest(), timeless


@pytest.mark.slow
def test_sft_and_grpo_killed_twice_each_end_as_if_they_had_not_been(whole, tmp_path, cache):
    for number, (stage, steps) in enumerate([("sft", 3), ("sft", 6), ("grpo", 1), ("grpo", 5)]):
        end_at(tmp_path, cache, stage, steps, f"run{number}")
    assert "grpo: continuing after step 4 of 8" in finish(tmp_path, cache, "last")
    for stage in ("sft", "grpo"):
        assert outcome(tmp_path, stage) == outcome(whole, stage)
    (grpo,) = (whole / "artifacts" / "grpo").glob("*/facts.json")
    assert json.loads(grpo.read_text())["steps"] == 8
    assert ["health/words_to_start" in row for row in outcome(whole, "grpo")[1]] == [False] * 3 + [True] * 5
    assert [row["grpo/grad_norm"] > 0 for row in outcome(whole, "grpo")[1]].count(True) >= 4


@pytest.mark.slow
def test_a_run_that_is_told_to_stop_keeps_its_last_step_and_a_damaged_checkpoint_costs_the_steps_after_the_one_before(
    whole, tmp_path, cache
):
    rarely = "sft.checkpoint_every_steps=100"
    status, said = end_at(tmp_path, cache, "sft", 3, "first", rarely, by=signal.SIGTERM)
    assert status == 75
    (kept,) = (tmp_path / "artifacts" / "sft").glob("*/checkpoints/*.ckpt")
    step = int(kept.stem.removeprefix("step-"))
    assert 3 <= step < 8
    run = tmp_path / "first"
    assert said[-1] == f"fires_exp: sft stopped after step {step} of 8 by SIGTERM; resume with: fires-exp resume {run}"
    assert json.loads((run / "run.json").read_text())["status"].startswith("StoppedError: sft stopped after step")
    assert all("lora_" in name or "visual" in name for name in torch.load(kept, weights_only=True)["state_dict"])
    check = subprocess.run(["sha256sum", "--check", f"{kept.name}.sha256"], cwd=kept.parent, check=False, capture_output=True)
    assert check.returncode == 0

    late = finish(tmp_path, cache, "second", rarely, "trainer.time_limit=00:00:01", status=75)
    assert "trainer.time_limit" in late.splitlines()[-1]

    status, _ = end_at(tmp_path, cache, "grpo", 5, "third", by=signal.SIGTERM)
    assert status == 75
    *_, before, newest = sorted((tmp_path / "artifacts" / "grpo").glob("*/checkpoints/*.ckpt"))
    damaged = bytearray(newest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    newest.write_bytes(damaged)
    said = finish(tmp_path, cache, "last")
    assert f"{newest} is damaged" in said
    assert f"grpo: continuing after step {int(before.stem.removeprefix('step-'))} of 8" in said
    for stage in ("sft", "grpo"):
        assert outcome(tmp_path, stage) == outcome(whole, stage)
    assert not list(tmp_path.glob("artifacts/*/*/checkpoints"))
