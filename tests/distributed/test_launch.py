"""Which rank a process is, from the words of whoever started it."""

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from fires_exp.config.training import TrainerConfig
from fires_exp.distributed.launch import LAUNCHER_PIPE, rank_environment
from fires_exp.errors import ConfigError

TRAINER = TrainerConfig(
    strategy="ddp",
    accelerator="cpu",
    devices=4,
    num_nodes=2,
    time_limit=None,
    prefetch_steps=1,
    keep_checkpoints=2,
    enforce_resource_estimate=True,
    deterministic=True,
    progress=False,
)
TORCHRUN = {
    "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "GROUP_RANK": "1",
    "MASTER_ADDR": "node0", "MASTER_PORT": "29500", "HOME": "/h",
}  # fmt: skip
SLURM = {
    "SLURM_JOB_ID": "70123", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8", "SLURM_NODEID": "1", "SLURM_LOCALID": "2",
    "SLURM_PROCID": "6", "SLURM_STEP_NODELIST": "gpu[07-08]",
}  # fmt: skip


def test_torchrun_says_it_all():
    assert rank_environment(TRAINER, TORCHRUN) == {
        "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "NODE_RANK": "1", "MASTER_ADDR": "node0", "MASTER_PORT": "29500",
    }  # fmt: skip


def test_srun_with_a_task_a_device_meets_on_the_first_node():
    assert rank_environment(TRAINER, SLURM) == {
        "RANK": "6", "WORLD_SIZE": "8", "LOCAL_RANK": "2", "NODE_RANK": "1", "MASTER_ADDR": "gpu07", "MASTER_PORT": "15123",
    }  # fmt: skip


def test_a_node_starts_its_own_ranks_where_nobody_has():
    one_node = replace(TRAINER, num_nodes=1)
    assert rank_environment(one_node, {}) is None
    assert rank_environment(one_node, {**SLURM, "SLURM_STEP_NUM_TASKS": "1"}) is None
    assert rank_environment(TRAINER, {**SLURM, "SLURM_STEP_NUM_TASKS": "2"}) is None


def test_a_wrong_number_of_processes_is_named():
    with pytest.raises(ConfigError, match=r"8 processes were started, but trainer.devices=2 on trainer.num_nodes=1 are 2"):
        rank_environment(replace(TRAINER, devices=2, num_nodes=1), TORCHRUN)
    with pytest.raises(ConfigError, match=r"trainer.num_nodes=2: start it on each node with srun or torchrun"):
        rank_environment(TRAINER, {})


def test_a_rank_ends_with_the_process_that_started_it():
    reading, writing = os.pipe()
    code = (
        "import time; from fires_exp.distributed.launch import exit_with_launcher; "
        "exit_with_launcher(); print('on', flush=True); time.sleep(60)"
    )
    rank = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, LAUNCHER_PIPE: str(reading)}, pass_fds=(reading,), stdout=subprocess.PIPE
    )
    os.close(reading)
    assert rank.stdout.readline() == b"on\n"
    assert rank.poll() is None
    os.close(writing)  # as the end of a process does, whatever ended it
    assert rank.wait(timeout=10) == -signal.SIGKILL
    rank.stdout.close()
