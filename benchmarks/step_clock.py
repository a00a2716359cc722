"""Time and peak memory of the parts of a step, measured alike on both sides, and the line protocol to the parent process.

Parts may nest: an inner part is not counted in the outer one. `scoring` is everything outside the other parts: the forward passes
of reference and policy, rewards, advantages, loss.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

PARTS = ("preparing", "sampling", "scoring", "backward", "optimizer")


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """Seconds and peak bytes of each part and of the `whole`. Memory is the device's allocations on a GPU, the process's
    resident memory on a CPU; both count weights. `resting_bytes` was held before the step."""

    seconds: dict[str, float]
    peak_bytes: dict[str, int]
    resting_bytes: int


class StepClock:
    def __init__(self, device: str) -> None:
        self.cuda = device == "cuda"
        self.stack: list[str] = []

    def start(self) -> None:
        """Begin a step after releasing cached memory."""
        self._release_memory()
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.peaks = dict.fromkeys(PARTS, 0)
        self.resting = self._peak_bytes(reset_only=True)
        self.stack = ["scoring"]
        self.since = time.perf_counter()

    def stop(self) -> StepReport:
        self._charge()
        assert len(self.stack) == 1
        self.stack = []
        self._release_memory()  # for the other side
        whole = {"whole": sum(self.seconds.values())}
        peak = {"whole": max(self.peaks.values())}
        return StepReport(seconds=self.seconds | whole, peak_bytes=self.peaks | peak, resting_bytes=self.resting)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Charge time and memory inside to a part; has no effect outside a step."""
        if not self.stack:
            yield
            return
        self._charge()
        self.stack.append(name)
        try:
            yield
        finally:
            self._charge()
            self.stack.pop()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return wrapped

    def watch_torch(self) -> None:
        """Charge every backward pass (activations recomputed in it included) and every optimizer's step."""
        torch.autograd.backward = self.timed("backward", torch.autograd.backward)
        torch.autograd.grad = self.timed("backward", torch.autograd.grad)
        torch.optim.AdamW.step = self.timed("optimizer", torch.optim.AdamW.step)  # type: ignore[method-assign]

    def _release_memory(self) -> None:
        if self.cuda:
            torch.cuda.empty_cache()
        else:
            ctypes.CDLL(None).malloc_trim(0)

    def _charge(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()
        now = time.perf_counter()
        part = self.stack[-1]
        self.seconds[part] += now - self.since
        self.peaks[part] = max(self.peaks[part], self._peak_bytes())
        self.since = time.perf_counter()

    def _peak_bytes(self, *, reset_only: bool = False) -> int:
        """The peak since the last call, which is reset; with `reset_only`, the memory held now."""
        if self.cuda:
            peak = torch.cuda.max_memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated() if reset_only else peak
        if reset_only:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
        peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
        Path("/proc/self/clear_refs").write_text("5")
        return peak


class Line:
    """The child's end of the line protocol: JSON lines out, `go` in. Other output to stdout is redirected to stderr."""

    def __init__(self) -> None:
        self.out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def send(self, **message: Any) -> None:
        self.out.write(json.dumps(message) + "\n")
        self.out.flush()

    def wait_for_go(self) -> None:
        """Return when the parent sends `go`; exit when it closes the pipe."""
        if sys.stdin.readline().strip() != "go":
            sys.exit(0)
