"""The order of training: which instances make up each optimizer step, from the first to the last."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from fires_exp.distributed import collectives

Item = TypeVar("Item")


def step_plan(count: int, *, batch_size: int, epochs: int, max_steps: int | None, seed: int) -> list[list[int]]:
    """Indices of each step's instances: every epoch a new seeded permutation, its last batch possibly smaller."""
    steps: list[list[int]] = []
    for epoch in range(epochs):
        order = list(range(count))
        random.Random(f"{seed}/{epoch}").shuffle(order)  # noqa: S311
        steps.extend(order[start : start + batch_size] for start in range(0, count, batch_size))
        if max_steps is not None and len(steps) >= max_steps:
            return steps[:max_steps]
    return steps


class WholePass(Generic[Item]):
    """Yields every item from the first to the last each time it is iterated, of several ranks' each its share: for validation."""

    def __init__(self, count: int, load: Callable[[int], Item]) -> None:
        self.count = count
        self.load = load

    def __iter__(self) -> Iterator[Item]:
        return map(self.load, collectives.share(range(self.count)))


class StepLoader(Generic[Item]):
    """Yields one list of items a step; knows where it is, so that a killed run goes on in the middle of the data.

    Of several ranks each gets its share of the step's items, which is empty where there are fewer items than ranks.

    While a step is under way the items of the next `ahead` steps are loaded in a thread, one after the other; with 0 they are
    loaded when they are due. What `load` raises is raised when its step is due.

    All epochs are one pass of this loader: Lightning then shows the whole stage as one bar. Lightning saves `state_dict` with
    each checkpoint and gives it back before it iterates again.
    """

    def __init__(self, plan: Sequence[Sequence[int]], load: Callable[[int], Item], *, ahead: int) -> None:
        self.plan = plan
        self.load = load
        self.ahead = ahead
        self.steps_done = 0

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[list[Item]]:
        shares = map(collectives.share, self.plan[self.steps_done :])
        for items in self._loaded_ahead(shares) if self.ahead else map(self._loaded, shares):
            self.steps_done += 1
            yield items
        self.steps_done = 0

    def _loaded_ahead(self, shares: Iterator[Sequence[int]]) -> Iterator[list[Item]]:
        waiting: deque[Future[list[Item]]] = deque()
        pool = ThreadPoolExecutor(1, thread_name_prefix="load")
        try:
            for share in shares:
                waiting.append(pool.submit(self._loaded, share))
                if len(waiting) > self.ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _loaded(self, share: Sequence[int]) -> list[Item]:
        return [self.load(index) for index in share]

    def state_dict(self) -> dict[str, Any]:
        return {"steps_done": self.steps_done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps_done = int(state["steps_done"])
