"""Several processes that do one job together: which of them this one is, its share of the work, sums and gathers over all.

Without a process group, and inside `alone`, everything answers as for a single process. Every function here but `share` and the
questions is a meeting: all ranks call it, in the same order.
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
Result = TypeVar("Result")
Given = ParamSpec("Given")

# whoever starts the ranks ends them all when one is lost; a rank itself waits as long as another has work to do
PATIENCE = timedelta(days=30)

_alone = False


def connect(rank: int, count: int, device: torch.device) -> None:
    """Meet the other ranks at MASTER_ADDR:MASTER_PORT. Records travel over gloo, tensors on a GPU over NCCL."""
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    with _meeting():
        dist.init_process_group(backend, rank=rank, world_size=count, timeout=PATIENCE)


def disconnect() -> None:
    """Leave without waiting for anybody."""
    if dist.is_initialized():
        dist.destroy_process_group()


def count() -> int:
    """How many processes work together here."""
    return dist.get_world_size() if dist.is_initialized() and not _alone else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if dist.is_initialized() and not _alone else 0


def is_first() -> bool:
    """Whether this is the process that writes files and speaks."""
    return rank() == 0


@contextmanager
def alone() -> Iterator[None]:
    """For work that rank 0 does by itself while the others wait for what comes of it."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def first_only(function: Callable[Given, None]) -> Callable[Given, None]:
    """A function that does nothing on other ranks than the first."""

    @functools.wraps(function)
    def guarded(*args: Given.args, **kwargs: Given.kwargs) -> None:
        if is_first():
            function(*args, **kwargs)

    return guarded


def share(items: Sequence[Item]) -> Sequence[Item]:
    """This rank's piece of a sequence: the ranks' pieces, one after the other, make it up; their lengths differ by at most one.

    >>> share([1, 2, 3])
    [1, 2, 3]
    """
    return items[len(items) * rank() // count() : len(items) * (rank() + 1) // count()]


def gather(value: Item) -> list[Item]:
    """What each rank gave, in their order; all get the same."""
    if count() == 1:
        return [value]
    found: list[Any] = [None] * count()
    with _meeting():
        dist.all_gather_object(found, value)
    return found


def joined(items: Sequence[Item]) -> list[Item]:
    """The ranks' sequences one after the other: what `share` took apart."""
    return [item for piece in gather(list(items)) for item in piece]


def total(*values: float) -> tuple[float, ...]:
    """Each number summed over the ranks, in double precision and in their order."""
    return tuple(sum(column) for column in zip(*gather(values), strict=True))


def from_first(value: Item) -> Item:
    """What rank 0 gave; the others' values are ignored."""
    return gather(value if is_first() else None)[0]  # type: ignore[return-value]


def meet() -> None:
    """Wait until all ranks have come here."""
    gather(None)


def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Add up the gradients of all ranks in place, in one message. A rank that had nothing to do counts as zeros, so ranks may
    have run different numbers of backward passes."""
    if count() == 1:
        return
    gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    with _meeting():
        dist.all_reduce(flat)
    for parameter, piece in zip(parameters, torch.split(flat, [one.numel() for one in parameters]), strict=True):
        parameter.grad = piece.view_as(parameter)


def check_same(name: str, value: str | int | float) -> None:
    """Raises `RankError` where the ranks do not have one and the same `value`."""
    found = gather(value)
    if any(other != found[0] for other in found):
        raise RankError(f"the processes of this run do not agree about {name}: {', '.join(map(str, found))}")


@contextmanager
def _meeting() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch has no narrower class for a peer that is gone
        raise RankError(
            f"another process of this run is gone, it says why itself ({str(error).splitlines()[0][:200]})"
        ) from error
