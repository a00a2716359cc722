"""Launch the ranks of a distributed run on this node: one process per device, all running the same job.

As with torchrun, each rank reads RANK, LOCAL_RANK, NODE_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT from its environment.
Without torchrun, or `srun` with one task per device, the job is a launcher: it starts the ranks itself, waits for them, and ends
all of them when one is lost.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fires_exp.config.training import TrainerConfig
from fires_exp.errors import ConfigError, ExitCode, signal_exit_code

# when a rank fails, the others have this long to notice before they are killed
GRACE_SECONDS = 60.0

# environment variable with the read end of a pipe that closes when the launcher ends
LAUNCHER_PIPE = "FIRES_EXP_LAUNCHER_PIPE"


def check_deepspeed(trainer: TrainerConfig) -> None:
    """Raises `ConfigError` if trainer.strategy needs DeepSpeed and it is not installed."""
    if trainer.strategy == "zero2" and importlib.util.find_spec("deepspeed") is None:
        raise ConfigError(
            "trainer.strategy=zero2 needs a package that is not installed: pip install fires-exp[deepspeed], or trainer=ddp"
        )


def rank_environment(trainer: TrainerConfig, environment: Mapping[str, str]) -> dict[str, str] | None:
    """The torchrun variables of this process's rank; None if this process must launch the ranks of its node.

    Raises `ConfigError` if the number of started processes is not that of `trainer`.
    """
    world_size = trainer.processes
    if "RANK" in environment and "WORLD_SIZE" in environment:
        if int(environment["WORLD_SIZE"]) != world_size:
            raise ConfigError(
                f"{environment['WORLD_SIZE']} processes were started, but trainer.devices={trainer.devices} on "
                f"trainer.num_nodes={trainer.num_nodes} are {world_size}: start as many as these keys say"
            )
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
        node_rank = environment.get("NODE_RANK", environment.get("GROUP_RANK", "0"))
        return {**{name: environment[name] for name in names}, "NODE_RANK": node_rank}
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", "1")) if "SLURM_STEP_ID" in environment else 1
    if world_size > 1 and tasks == world_size:
        node, local_rank = int(environment["SLURM_NODEID"]), int(environment["SLURM_LOCALID"])
        return _rank_variables(trainer, node, local_rank, *_slurm_address(environment))
    if trainer.num_nodes > 1 and tasks != trainer.num_nodes:
        raise ConfigError(
            f"trainer.num_nodes={trainer.num_nodes}: start it on each node with srun or torchrun, as docs/distributed.md shows"
        )
    return None


def start_ranks(run_folder: Path, trainer: TrainerConfig, environment: Mapping[str, str]) -> int:
    """Start the ranks of this node and wait for them; the exit status of the rank that ended the run.

    Rank 0 writes to the terminal, the others to `rank<N>.txt` in the run folder. SIGTERM and SIGINT are forwarded to all ranks.
    """
    node, (address, port) = 0, ("127.0.0.1", _free_port())
    if trainer.num_nodes > 1:
        node, (address, port) = int(environment["SLURM_NODEID"]), _slurm_address(environment)
    command = [sys.executable, "-m", "fires_exp.cli.job", str(run_folder)]
    threads = str(max(1, (os.cpu_count() or 1) // trainer.devices))
    processes: dict[int, subprocess.Popen[bytes]] = {}
    read_end, write_end = os.pipe()  # closes when this process ends, for whatever reason; the ranks then end too
    with ExitStack() as files:
        for local_rank in range(trainer.devices):
            variables = _rank_variables(trainer, node, local_rank, address, port)
            rank = int(variables["RANK"])
            output = files.enter_context((run_folder / f"rank{rank}.txt").open("wb")) if rank else None
            processes[rank] = subprocess.Popen(
                command,
                env={"OMP_NUM_THREADS": threads, **environment, **variables, LAUNCHER_PIPE: str(read_end)},
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                pass_fds=(read_end,),
                start_new_session=True,  # so that an interrupt from the terminal reaches a rank once, forwarded from here
            )
    os.close(read_end)
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda signal_number, _: _signal_all(processes, signal_number))
    rank, status = _wait(processes)
    os.close(write_end)
    if status < 0:
        print(f"fires_exp: rank {rank} was killed by {signal.Signals(-status).name}; the run is stopped", file=sys.stderr)
        return signal_exit_code(-status)
    if status and rank:
        print(f"fires_exp: rank {rank}: {_last_line(run_folder / f'rank{rank}.txt')}", file=sys.stderr)
    return status


def exit_with_launcher() -> None:
    """End this rank when its launcher has ended, so that no rank is left holding locks and devices."""
    read_end = int(os.environ.pop(LAUNCHER_PIPE, "-1"))
    if read_end >= 0:
        threading.Thread(target=_kill_when_closed, args=(read_end,), daemon=True).start()


def _kill_when_closed(read_end: int) -> None:
    os.read(read_end, 1)
    os.kill(os.getpid(), signal.SIGKILL)


def _rank_variables(trainer: TrainerConfig, node: int, local_rank: int, address: str, port: int) -> dict[str, str]:
    variables: dict[str, Any] = {
        "RANK": node * trainer.devices + local_rank,
        "LOCAL_RANK": local_rank,
        "NODE_RANK": node,
        "WORLD_SIZE": trainer.processes,
        "MASTER_ADDR": address,
        "MASTER_PORT": port,
    }
    return {name: str(value) for name, value in variables.items()}


def _wait(processes: Mapping[int, subprocess.Popen[bytes]]) -> tuple[int, int]:
    """Wait for all ranks. Returns rank and status of the first that failed for a reason of its own, or (0, 0). After a failure
    the other ranks have `GRACE_SECONDS` to end."""
    statuses: dict[int, int] = {}
    deadline = None
    while len(statuses) < len(processes):
        time.sleep(0.05)
        for rank, process in processes.items():
            if rank not in statuses and (status := process.poll()) is not None:
                statuses[rank] = status
                if status and deadline is None:
                    deadline = time.monotonic() + GRACE_SECONDS
        if deadline is not None and time.monotonic() > deadline:
            _signal_all({rank: process for rank, process in processes.items() if rank not in statuses}, signal.SIGKILL)
            deadline = None
    failed = [(rank, status) for rank, status in statuses.items() if status]
    own_failures = [(rank, status) for rank, status in failed if status != ExitCode.RANK_LOST]
    rank, status = (own_failures or failed or [(0, 0)])[0]
    return (0 if statuses.get(0) == status else rank), status  # rank 0 has already reported a failure that it shares


def _signal_all(processes: Mapping[int, subprocess.Popen[bytes]], signal_number: int) -> None:
    for process in processes.values():
        process.send_signal(signal_number)


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].removeprefix("fires_exp: ") if lines else f"see {path}"


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
    return port


def _slurm_address(environment: Mapping[str, str]) -> tuple[str, int]:
    """The first node of the Slurm job, and a port derived from the job's id."""
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    nodes = environment.get("SLURM_STEP_NODELIST", environment.get("SLURM_NODELIST", "127.0.0.1"))
    return SLURMEnvironment.resolve_root_node_address(nodes), 15000 + int(environment["SLURM_JOB_ID"][-4:])
