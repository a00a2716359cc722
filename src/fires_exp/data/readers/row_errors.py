"""Rows that cannot be used: the first one stops the run, or all of them are left out and listed."""

from __future__ import annotations

from dataclasses import dataclass

from fires_exp.config.data import BadRowPolicy
from fires_exp.errors import DataError

_QUOTED_CHARACTERS = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class BadRow:
    """A row that was left out. `line` is the line number that a text editor shows; the first one of a row with line breaks.

    >>> print(BadRow(file="MESC.csv", line=17, problem="Utterance is empty", remedy="correct the row"))
    MESC.csv:17: Utterance is empty; correct the row
    """

    file: str
    line: int
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.problem}; {self.remedy}"


class RowError(Exception):
    """The problem of a row and its remedy. `RowProblems.at` adds file and line; the error never leaves `data`."""

    def __init__(self, problem: str, remedy: str = "correct the row") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


class RowProblems:
    """Collects the bad rows of a dataset. With `error` the first one raises `DataError`; with `skip` they are listed."""

    def __init__(self, policy: BadRowPolicy) -> None:
        self._policy = policy
        self._rows: list[BadRow] = []

    @property
    def rows(self) -> tuple[BadRow, ...]:
        """The rows left out so far, in the order in which they were read."""
        return tuple(self._rows)

    def at(self, file: str, line: int) -> RowBlock:
        """A context manager: a `RowError` in its block ends the block and makes line `line` of `file` a bad row."""
        return RowBlock(self, file, line)

    def add(self, file: str, line: int, error: RowError) -> None:
        """Line `line` of `file` is a bad row. Raises `DataError` under the policy `error`."""
        row = BadRow(file=file, line=line, problem=error.problem, remedy=error.remedy)
        if self._policy == BadRowPolicy.error:
            raise DataError(f"{row}, or leave bad rows out with dataset.on_bad_row=skip") from None
        self._rows.append(row)


class RowBlock:
    """The context manager of `RowProblems.at`: a class, since one is entered for every row of a corpus."""

    __slots__ = ("_file", "_line", "_problems")

    def __init__(self, problems: RowProblems, file: str, line: int) -> None:
        self._problems = problems
        self._file = file
        self._line = line

    def __enter__(self) -> None:
        pass

    def __exit__(self, error_type: object, error: BaseException | None, traceback: object) -> bool:
        if not isinstance(error, RowError):
            return False
        self._problems.add(self._file, self._line, error)
        return True


def quoted(value: object) -> str:
    """A value for an error message: its `repr`, on one line, without control characters, shortened where it is long.

    >>> quoted("00:0x")
    "'00:0x'"
    """
    text = repr(value)
    return text if len(text) <= _QUOTED_CHARACTERS else text[: _QUOTED_CHARACTERS - 1] + "…"
