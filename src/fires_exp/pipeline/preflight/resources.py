"""What this machine has left: memory of the process's own device and of the machine, and room on its disks."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def free_memory(cgroups: Path, own: Path) -> int:
    """Bytes that this process may still take before the system swaps or kills: what the machine has available, or less where a
    control group (a container, a Slurm job) sets a limit."""
    return min([int(psutil.virtual_memory().available), *_group_rooms(cgroups, own)])


def free_memory_here() -> int:
    return free_memory(_CGROUPS, _OWN_CGROUP)


def free_gpu_memory(device: torch.device) -> int:
    """Bytes of a GPU that nobody holds."""
    return int(torch.cuda.mem_get_info(device)[0])


def held_memory() -> int:
    """Bytes that this process holds now."""
    return int(psutil.Process().memory_info().rss)


def free_disk(folder: Path) -> int:
    """Bytes left where a folder lies or will lie."""
    while not folder.exists():
        folder = folder.parent
    return int(psutil.disk_usage(str(folder)).free)


def _group_rooms(cgroups: Path, own: Path) -> list[int]:
    """What the limits of the process's control groups and of all above them leave, version 2 and version 1."""
    rooms = []
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, limit, used, cache = cgroups, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            root, limit, used, cache = cgroups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                rooms += _room(folder, limit, used, cache)
    return rooms


def _room(folder: Path, limit: str, used: str, cache: str) -> list[int]:
    try:
        most = (folder / limit).read_text().strip()
        if most == "max":
            return []
        facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        # pages of files that nobody uses are given back when memory is wanted
        return [max(0, int(most) - int((folder / used).read_text()) + int(facts.get(cache, 0)))]
    except (OSError, ValueError):
        return []
