"""Which questions count against a stage's budget, each once, however often the stage is started."""

from __future__ import annotations

import threading
from pathlib import Path


class Tally:
    """Keys of questions. With a path they are kept, a line each, for a stage that does not ask its earlier questions again when
    it goes on. Threads may share it."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._keys: set[str] = set()
        if path is not None and path.is_file():
            whole, end, _ = path.read_text(encoding="ascii").rpartition("\n")  # a kill may leave half a line
            path.write_text(whole + end, encoding="ascii")
            self._keys.update(whole.split())

    @property
    def keys(self) -> frozenset[str]:
        with self._lock:
            return frozenset(self._keys)

    def add(self, key: str) -> bool:
        """Whether the key is new."""
        with self._lock:
            if key in self._keys:
                return False
            if self._path is not None:
                with self._path.open("a", encoding="ascii") as file:
                    file.write(key + "\n")
            self._keys.add(key)
            return True
