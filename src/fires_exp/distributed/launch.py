"""The processes of a distributed run on this node: one a device, all of them the same job with another rank.

Whoever starts ranks tells each who it is by RANK, LOCAL_RANK, NODE_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as torchrun
does. Without torchrun or `srun` with a task a device, the job starts them itself and stays behind to end them all when one is
lost.
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

from fires_exp.config.schema import TrainerConfig
from fires_exp.errors import ConfigError, ExitCode, signal_exit_code

GRACE_SECONDS = 60.0

STARTER = "FIRES_EXP_STARTER"


def check_deepspeed(trainer: TrainerConfig) -> None:
    """Raises `ConfigError` where DeepSpeed is wanted and not installed."""
    if trainer.strategy == "zero2" and importlib.util.find_spec("deepspeed") is None:
        raise ConfigError(
            "trainer.strategy=zero2 needs a package that is not installed: pip install fires-exp[deepspeed], or trainer=ddp"
        )


def rank_environment(trainer: TrainerConfig, environment: Mapping[str, str]) -> dict[str, str] | None:
    """What this process is told about its rank, in torchrun's words; None where it has to start the ranks of its node itself.

    Raises `ConfigError` where more or fewer processes were started than `trainer` names.
    """
    world = trainer.processes
    if "RANK" in environment and "WORLD_SIZE" in environment:
        if int(environment["WORLD_SIZE"]) != world:
            raise ConfigError(
                f"{environment['WORLD_SIZE']} processes were started, but trainer.devices={trainer.devices} on "
                f"trainer.num_nodes={trainer.num_nodes} are {world}; write the same number in both"
            )
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
        node = environment.get("NODE_RANK", environment.get("GROUP_RANK", "0"))
        return {**{name: environment[name] for name in names}, "NODE_RANK": node}
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", "1")) if "SLURM_STEP_ID" in environment else 1
    if world > 1 and tasks == world:
        place = int(environment["SLURM_NODEID"]), int(environment["SLURM_LOCALID"])
        return _told(trainer, *place, *_slurm_address(environment))
    if trainer.num_nodes > 1 and tasks != trainer.num_nodes:
        raise ConfigError(
            f"trainer.num_nodes={trainer.num_nodes}: start it on each node with srun or torchrun, as docs/distributed.md shows"
        )
    return None


def start_ranks(run_folder: Path, trainer: TrainerConfig, environment: Mapping[str, str]) -> int:
    """Start this node's ranks and wait for them; the exit status of the one that ended the run.

    Rank 0 has the terminal, the others write `rank<N>.txt` into the run folder. SIGTERM and an interrupt are passed on to all.
    """
    node, place = 0, ("127.0.0.1", _free_port())
    if trainer.num_nodes > 1:
        node, place = int(environment["SLURM_NODEID"]), _slurm_address(environment)
    command = [sys.executable, "-m", "fires_exp.cli.job", str(run_folder)]
    threads = str(max(1, (os.cpu_count() or 1) // trainer.devices))
    processes: dict[int, subprocess.Popen[bytes]] = {}
    reading, writing = os.pipe()  # ends with this process, whatever ends it: the ranks see that and end too
    with ExitStack() as files:
        for local in range(trainer.devices):
            told = _told(trainer, node, local, *place)
            rank = int(told["RANK"])
            output = files.enter_context((run_folder / f"rank{rank}.txt").open("wb")) if rank else None
            processes[rank] = subprocess.Popen(
                command,
                env={"OMP_NUM_THREADS": threads, **environment, **told, STARTER: str(reading)},
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                pass_fds=(reading,),
                start_new_session=True,  # an interrupt from the terminal comes through here, once
            )
    os.close(reading)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: _send(processes, number))
    rank, status = _wait(processes)
    os.close(writing)
    if status < 0:
        print(f"fires_exp: rank {rank} was killed by {signal.Signals(-status).name}; the run is ended", file=sys.stderr)
        return signal_exit_code(-status)
    if status and rank:
        print(f"fires_exp: rank {rank}: {_last_line(run_folder / f'rank{rank}.txt')}", file=sys.stderr)
    return status


def follow_starter() -> None:
    """End this rank when the process that started it is gone, so that none is left to hold locks and devices."""
    reading = int(os.environ.pop(STARTER, "-1"))
    if reading >= 0:
        threading.Thread(target=_end_with, args=(reading,), daemon=True).start()


def _end_with(reading: int) -> None:
    os.read(reading, 1)
    os.kill(os.getpid(), signal.SIGKILL)


def _told(trainer: TrainerConfig, node: int, local: int, address: str, port: int) -> dict[str, str]:
    told: dict[str, Any] = {
        "RANK": node * trainer.devices + local,
        "LOCAL_RANK": local,
        "NODE_RANK": node,
        "WORLD_SIZE": trainer.processes,
        "MASTER_ADDR": address,
        "MASTER_PORT": port,
    }
    return {name: str(value) for name, value in told.items()}


def _wait(processes: Mapping[int, subprocess.Popen[bytes]]) -> tuple[int, int]:
    """Wait for all; rank and status of the first that ended badly for a reason of its own, else (0, 0). Once one has, the others
    have a minute to notice."""
    ended: dict[int, int] = {}
    deadline = None
    while len(ended) < len(processes):
        time.sleep(0.05)
        for rank, process in processes.items():
            if rank not in ended and (status := process.poll()) is not None:
                ended[rank] = status
                if status and deadline is None:
                    deadline = time.monotonic() + GRACE_SECONDS
        if deadline is not None and time.monotonic() > deadline:
            _send({rank: process for rank, process in processes.items() if rank not in ended}, signal.SIGKILL)
            deadline = None
    bad = [(rank, status) for rank, status in ended.items() if status]
    own = [(rank, status) for rank, status in bad if status != ExitCode.RANK_LOST]
    rank, status = (own or bad or [(0, 0)])[0]
    return (0 if ended.get(0) == status else rank), status  # what rank 0 has said too need not be said again


def _send(processes: Mapping[int, subprocess.Popen[bytes]], number: int) -> None:
    for process in processes.values():
        process.send_signal(number)


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].removeprefix("fires_exp: ") if lines else f"see {path}"


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
    return port


def _slurm_address(environment: Mapping[str, str]) -> tuple[str, int]:
    """The job's first node, and a port that follows from the job's number."""
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

    nodes = environment.get("SLURM_STEP_NODELIST", environment.get("SLURM_NODELIST", "127.0.0.1"))
    return SLURMEnvironment.resolve_root_node_address(nodes), 15000 + int(environment["SLURM_JOB_ID"][-4:])
