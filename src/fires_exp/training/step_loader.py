"""Which examples each step trains on, and a resumable loader of the steps."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from fires_exp.distributed import collectives

Item = TypeVar("Item")


def step_plan(count: int, *, batch_size: int, epochs: int, max_steps: int | None, seed: int) -> list[list[int]]:
    """The indices of each step's examples. Every epoch is a new seeded permutation; its last batch may be smaller."""
    steps: list[list[int]] = []
    for epoch in range(epochs):
        order = list(range(count))
        random.Random(f"{seed}/{epoch}").shuffle(order)  # noqa: S311
        steps.extend(order[start : start + batch_size] for start in range(0, count, batch_size))
        if max_steps is not None and len(steps) >= max_steps:
            return steps[:max_steps]
    return steps


class FullPassLoader(Generic[Item]):
    """Yields this rank's shard of all items, in order, each time it is iterated: for validation."""

    def __init__(self, count: int, load: Callable[[int], Item]) -> None:
        self.count = count
        self.load = load

    def __iter__(self) -> Iterator[Item]:
        return map(self.load, collectives.shard(range(self.count)))


class StepLoader(Generic[Item]):
    """Yields one list of items per step, and resumes in the middle of the data.

    Each rank gets its shard of a step's items, which is empty if there are fewer items than ranks.

    While a step runs, a thread loads the items of the next `prefetch` steps, in order; with 0 they are loaded when they are
    needed. An exception of `load` is raised when its step is reached.

    All epochs are one pass of this loader, so that Lightning shows the stage as one progress bar. Lightning saves `state_dict` in
    each checkpoint and restores it before iterating again.
    """

    def __init__(self, plan: Sequence[Sequence[int]], load: Callable[[int], Item], *, prefetch: int) -> None:
        self.plan = plan
        self.load = load
        self.prefetch = prefetch
        self.steps_done = 0

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[list[Item]]:
        shards = map(collectives.shard, self.plan[self.steps_done :])
        for items in self._prefetched(shards) if self.prefetch else map(self._load_shard, shards):
            self.steps_done += 1
            yield items
        self.steps_done = 0

    def _prefetched(self, shards: Iterator[Sequence[int]]) -> Iterator[list[Item]]:
        futures: deque[Future[list[Item]]] = deque()
        pool = ThreadPoolExecutor(1, thread_name_prefix="load")
        try:
            for shard in shards:
                futures.append(pool.submit(self._load_shard, shard))
                if len(futures) > self.prefetch:
                    yield futures.popleft().result()
            while futures:
                yield futures.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _load_shard(self, indices: Sequence[int]) -> list[Item]:
        return [self.load(index) for index in indices]

    def state_dict(self) -> dict[str, Any]:
        return {"steps_done": self.steps_done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps_done = int(state["steps_done"])
