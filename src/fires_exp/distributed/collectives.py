"""Collectives over the processes of a distributed run, and this process's rank and shard.

Outside a process group, and inside `single_process`, every function behaves as for world size 1. `all_gather`, `gather_items`,
`all_sum`, `broadcast`, `barrier`, `sum_gradients` and `check_same` are collectives: all ranks must call them in the same order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from fires_exp.errors import RankError

Item = TypeVar("Item")
Params = ParamSpec("Params")

# whatever started the ranks ends them all when one is lost; a rank itself waits for as long as another one computes
TIMEOUT = timedelta(days=30)

_single_process = False


def connect(rank: int, world_size: int, device: torch.device) -> None:
    """Join the process group at MASTER_ADDR:MASTER_PORT. Python objects use gloo; tensors on a GPU use NCCL."""
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    with _lost_rank_as_error():
        dist.init_process_group(backend, rank=rank, world_size=world_size, timeout=TIMEOUT)


def disconnect() -> None:
    """Leave the process group without waiting for the other ranks."""
    if dist.is_initialized():
        dist.destroy_process_group()


def world_size() -> int:
    """Number of processes of the run."""
    return dist.get_world_size() if dist.is_initialized() and not _single_process else 1


def rank() -> int:
    """Index of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() and not _single_process else 0


def is_main() -> bool:
    """Whether this is rank 0, which writes files and logs."""
    return rank() == 0


@contextmanager
def single_process() -> Iterator[None]:
    """Inside, this process behaves as world size 1: for work that rank 0 does while the others wait for its result."""
    global _single_process
    before, _single_process = _single_process, True
    try:
        yield
    finally:
        _single_process = before


def main_rank_only(function: Callable[Params, None]) -> Callable[Params, None]:
    """Decorator: the function does nothing on ranks other than 0."""

    @functools.wraps(function)
    def guarded(*args: Params.args, **kwargs: Params.kwargs) -> None:
        if is_main():
            function(*args, **kwargs)

    return guarded


def shard(items: Sequence[Item]) -> Sequence[Item]:
    """This rank's shard of a sequence. Shards are contiguous, in rank order, and their lengths differ by at most one.

    >>> shard([1, 2, 3])
    [1, 2, 3]
    """
    return items[len(items) * rank() // world_size() : len(items) * (rank() + 1) // world_size()]


def all_gather(value: Item) -> list[Item]:
    """The values of all ranks, in rank order."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    with _lost_rank_as_error():
        dist.all_gather_object(values, value)
    return values


def gather_items(items: Sequence[Item]) -> list[Item]:
    """The sequences of all ranks, concatenated in rank order: the inverse of `shard`."""
    return [item for shard_items in all_gather(list(items)) for item in shard_items]


def all_sum(*values: float) -> tuple[float, ...]:
    """Each number summed over the ranks, in double precision and in rank order, so that all ranks get the same result."""
    return tuple(sum(column) for column in zip(*all_gather(values), strict=True))


def broadcast(value: Item) -> Item:
    """The value of rank 0; the values of other ranks are ignored."""
    return all_gather(value if is_main() else None)[0]  # type: ignore[return-value]


def barrier() -> None:
    """Wait until all ranks have called this."""
    all_gather(None)


def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Sum the gradients over all ranks in place, in one all-reduce. A missing gradient counts as zeros, so ranks may have run
    different numbers of backward passes."""
    if world_size() == 1:
        return
    gradients = [torch.zeros_like(parameter) if parameter.grad is None else parameter.grad for parameter in parameters]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    with _lost_rank_as_error():
        dist.all_reduce(flat)
    sums = torch.split(flat, [parameter.numel() for parameter in parameters])
    for parameter, gradient_sum in zip(parameters, sums, strict=True):
        parameter.grad = gradient_sum.view_as(parameter)


def check_same(name: str, value: str | int | float) -> None:
    """Raises `RankError` if the ranks do not have the same `value`."""
    values = all_gather(value)
    if any(other != values[0] for other in values):
        raise RankError(f"the processes of this run disagree on {name}: {', '.join(map(str, values))}")


@contextmanager
def _lost_rank_as_error() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch has no narrower class for a lost peer
        raise RankError(
            f"another process of this run has ended; the reason is in its own output ({str(error).splitlines()[0][:200]})"
        ) from error
