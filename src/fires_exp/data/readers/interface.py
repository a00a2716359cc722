"""The interface of a dataset reader: the request that it gets and the record by which the registry lists it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fires_exp.data.dataset_cache import cached_or_read
from fires_exp.data.readers.row_errors import RowProblems
from fires_exp.data.records import Conversation, SupportExample, support_examples
from fires_exp.errors import DataError


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadRequest:
    """The keys of `dataset` that a reader needs, the collector of its bad rows, and the folder of the cache, if there is one.

    >>> from fires_exp.config.data import BadRowPolicy
    >>> problems = RowProblems(BadRowPolicy.error)
    >>> ReadRequest(dataset="jsonl", root=".", video_pattern="", problems=problems, cache=None).folder()
    PosixPath('.')
    """

    dataset: str
    root: str | None
    video_pattern: str
    problems: RowProblems
    cache: Path | None

    def folder(self) -> Path:
        """`dataset.root` as a folder. Raises `DataError` if it is none."""
        root = Path(self.root or "")
        if root.is_dir():
            return root
        raise self._missing("folder")

    def file_or_folder(self) -> Path:
        """`dataset.root` as a file or a folder. Raises `DataError` if it is neither."""
        root = Path(self.root or "")
        if root.is_dir() or root.is_file():
            return root
        raise self._missing("file or folder")

    def _missing(self, expected: str) -> DataError:
        return DataError(
            f"dataset.root={self.root} is not a {expected}; write dataset.root=<{expected} of the {self.dataset} data>"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetReader:
    """`read` gives all instances of a dataset, in the order of the corpus, and raises `DataError` in one line.

    `shipped_videos` is the video root of a dataset that has its own; it is used unless `dataset.video_root` names another.
    """

    read: Callable[[ReadRequest], tuple[SupportExample, ...]]
    shipped_videos: Path | None = None


def cached_examples(
    request: ReadRequest, settings: Sequence[str], tables: Sequence[Path], read: Callable[[], tuple[Conversation, ...]]
) -> tuple[SupportExample, ...]:
    """The instances of the conversations that `read` gives, which come from the cache if the tables are large.

    `settings` are all values except the content of `tables` on which the conversations depend.
    """
    return examples_of(cached_or_read(request.cache, settings, tables, request.problems, read))


def examples_of(conversations: Sequence[Conversation]) -> tuple[SupportExample, ...]:
    return tuple(example for conversation in conversations for example in support_examples(conversation))
