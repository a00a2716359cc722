"""Rows that cannot be used: the first one stops the run, or all of them are left out and listed."""

from __future__ import annotations

from dataclasses import dataclass

from fires_exp.config.data import BadRowPolicy
from fires_exp.errors import DataError

_SHOWN_CHARACTERS = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class BadRow:
    """A row that was left out. `line` is the one a text editor shows; of a row with line breaks, its first.

    >>> print(BadRow(file="MESC.csv", line=17, problem="Utterance is empty", remedy="mend the row"))
    MESC.csv:17: Utterance is empty; mend the row
    """

    file: str
    line: int
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.problem}; {self.remedy}"


class RowError(Exception):
    """What is wrong with a row and how to mend it. `RowProblems.at` adds where it stands; never leaves `data`."""

    def __init__(self, problem: str, remedy: str = "mend the row") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


class RowProblems:
    """Receives every bad row of a dataset. With `error` the first one raises `DataError`; with `skip` they are collected."""

    def __init__(self, policy: BadRowPolicy) -> None:
        self._policy = policy
        self._rows: list[BadRow] = []

    @property
    def rows(self) -> tuple[BadRow, ...]:
        """The rows left out so far, in the order in which they were met."""
        return tuple(self._rows)

    def at(self, file: str, line: int) -> RowBlock:
        """A `RowError` in a `with` block of this makes line `line` of `file` a bad row, and the block ends there."""
        return RowBlock(self, file, line)

    def add(self, file: str, line: int, error: RowError) -> None:
        """Line `line` of `file` is a bad row. Raises `DataError` with `error`."""
        row = BadRow(file=file, line=line, problem=error.problem, remedy=error.remedy)
        if self._policy == "error":
            raise DataError(f"{row}, or leave such rows out with dataset.on_bad_row=skip") from None
        self._rows.append(row)


class RowBlock:
    """What `RowProblems.at` gives."""

    __slots__ = ("_file", "_line", "_problems")

    def __init__(self, problems: RowProblems, file: str, line: int) -> None:
        self._problems = problems
        self._file = file
        self._line = line

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, RowError):
            return False
        self._problems.add(self._file, self._line, error)
        return True


def shown(value: object) -> str:
    """A value as messages quote it: on one line, without control characters, cut off where it is long.

    >>> shown("00:0x")
    "'00:0x'"
    """
    whole = repr(value)
    return whole if len(whole) <= _SHOWN_CHARACTERS else whole[: _SHOWN_CHARACTERS - 1] + "…"
