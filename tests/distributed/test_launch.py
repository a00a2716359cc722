"""The rank of a process, from the environment variables of its launcher."""

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


def test_torchrun_sets_all_variables():
    assert rank_environment(TRAINER, TORCHRUN) == {
        "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "NODE_RANK": "1", "MASTER_ADDR": "node0", "MASTER_PORT": "29500",
    }  # fmt: skip


def test_srun_with_one_task_per_device_connects_to_the_first_node():
    assert rank_environment(TRAINER, SLURM) == {
        "RANK": "6", "WORLD_SIZE": "8", "LOCAL_RANK": "2", "NODE_RANK": "1", "MASTER_ADDR": "gpu07", "MASTER_PORT": "15123",
    }  # fmt: skip


def test_a_node_launches_its_ranks_if_they_were_not_started():
    one_node = replace(TRAINER, num_nodes=1)
    assert rank_environment(one_node, {}) is None
    assert rank_environment(one_node, {**SLURM, "SLURM_STEP_NUM_TASKS": "1"}) is None
    assert rank_environment(TRAINER, {**SLURM, "SLURM_STEP_NUM_TASKS": "2"}) is None


def test_a_wrong_number_of_processes_is_an_error():
    with pytest.raises(ConfigError, match=r"8 processes .*trainer\.devices=2.*trainer\.num_nodes=1"):
        rank_environment(replace(TRAINER, devices=2, num_nodes=1), TORCHRUN)
    with pytest.raises(ConfigError, match=r"trainer\.num_nodes=2.*docs/distributed\.md"):
        rank_environment(TRAINER, {})


def test_a_rank_ends_with_its_launcher():
    read_end, write_end = os.pipe()
    code = (
        "import time; from fires_exp.distributed.launch import exit_with_launcher; "
        "exit_with_launcher(); print('on', flush=True); time.sleep(60)"
    )
    rank = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, LAUNCHER_PIPE: str(read_end)},
        pass_fds=(read_end,),
        stdout=subprocess.PIPE,
    )
    os.close(read_end)
    assert rank.stdout.readline() == b"on\n"
    assert rank.poll() is None
    os.close(write_end)  # as happens when the launcher ends, for whatever reason
    assert rank.wait(timeout=10) == -signal.SIGKILL
    rank.stdout.close()
