"""A run that is killed with SIGKILL goes on and ends with the weights of one that was not, bit for bit."""

import hashlib
import json
import os
import subprocess
import sys
import time

import pytest

OVERRIDES = [
    "+experiment=smoke", "aspects=no_thought", "trainer.progress=false",
    "recipe.stages=[synthesise,sft,grpo]", "recipe.policies=[]",
    "frames.max_frames=1", "dataset.limit.train=12",
    "sft.epochs=9", "sft.max_steps=8", "sft.checkpoint_every_steps=2", "sft.lora.dropout=0.3",
    "grpo.epochs=9", "grpo.max_steps=8", "grpo.checkpoint_every_steps=2", "grpo.updates_per_rollout=2", "grpo.lora.dropout=0.3",
    "health.window_steps=3", "epitome=smoke", "metrics=smoke",
]  # fmt: skip


def command(folder, cache, name):
    places = [f"paths.artifacts={folder / 'artifacts'}", f"paths.cache={cache}", f"hydra.run.dir={folder / name}"]
    return [sys.executable, "-m", "fires_exp", *OVERRIDES, *places]


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def steps_of(folder, stage):
    files = list((folder / "artifacts" / stage).glob("*/metrics.jsonl"))
    return len(files[0].read_text().splitlines()) if files else 0


def kill_at(folder, cache, stage, steps, name):
    """Start the run and kill it when a stage has logged so many steps."""
    process = subprocess.Popen(
        command(folder, cache, name), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while steps_of(folder, stage) < steps:
        assert process.poll() is None, "the run ended before it was killed"
        time.sleep(0.005)
    process.kill()
    process.wait()


def finish(folder, cache, name):
    done = subprocess.run(command(folder, cache, name), env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def outcome(folder, stage):
    """The adapter's bytes, and what was logged without the clock."""
    (place,) = (folder / "artifacts" / stage).glob("*/done.json")
    rows = [json.loads(line) for line in (place.parent / "metrics.jsonl").read_text().splitlines()]
    timeless = [{name: value for name, value in row.items() if not name.startswith("speed/")} for row in rows]
    return hashlib.sha256((place.parent / "adapter" / "adapter_model.safetensors").read_bytes()).hexdigest(), timeless


@pytest.mark.slow
def test_sft_and_grpo_killed_twice_each_end_as_if_they_had_not_been(tmp_path, cache):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(whole, cache, "run")
    for number, (stage, steps) in enumerate([("sft", 3), ("sft", 6), ("grpo", 1), ("grpo", 5)]):
        kill_at(killed, cache, stage, steps, f"run{number}")
    assert "grpo: going on after step 4 of 8" in finish(killed, cache, "last")
    for stage in ("sft", "grpo"):
        assert outcome(killed, stage) == outcome(whole, stage)
    (grpo,) = (whole / "artifacts" / "grpo").glob("*/facts.json")
    assert json.loads(grpo.read_text())["steps"] == 8
    assert ["health/words_to_start" in row for row in outcome(whole, "grpo")[1]] == [False] * 3 + [True] * 5
    assert [row["grpo/grad_norm"] > 0 for row in outcome(whole, "grpo")[1]].count(True) >= 4
