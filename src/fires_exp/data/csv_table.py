"""CSV files, row by row, with the line numbers that a text editor shows."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from fires_exp.data.bad_rows import RowError, RowProblems, shown
from fires_exp.data.turns import clean_text
from fires_exp.errors import DataError

_TIME = re.compile(r"(\d{1,2}):([0-5]\d):([0-5]\d)[,.](\d{3})", re.ASCII)
_MOST_DIGITS = 9
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # how `surrogateescape` marks a byte that is not UTF-8


@dataclass(frozen=True, kw_only=True, slots=True)
class CsvRow:
    """A row's cells by column name. The methods raise `RowError` for a cell that does not hold what they promise."""

    file: str
    line: int
    cells: Mapping[str, str]

    def number(self, column: str) -> int:
        """A whole number of at least 0."""
        cell = self.cells[column].strip()
        if not (cell.isdigit() and cell.isascii() and len(cell) <= _MOST_DIGITS):
            raise RowError(f"{column} {shown(cell)} is not a whole number")
        return int(cell)

    def text(self, column: str) -> str:
        """Clean text, never empty."""
        text = clean_text(self.cells[column])
        if not text:
            raise RowError(f"{column} is empty")
        return text

    def seconds(self, column: str) -> float | None:
        """A subtitle time, in seconds; None for an empty cell."""
        cell = self.cells[column].strip()
        if not cell:
            return None
        time = _TIME.fullmatch(cell)
        if time is None:
            raise RowError(f"{column} {shown(cell)} is not HH:MM:SS,mmm")
        hours, minutes, seconds, milliseconds = time.groups()
        return (((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1000 + int(milliseconds)) / 1000


def read_csv(path: Path, columns: Sequence[str], problems: RowProblems) -> Iterator[CsvRow]:
    """The rows of a UTF-8 file with a header; `.gz` is unpacked, blank lines are passed over.

    A missing file or column raises `DataError`; a row that cannot be read goes to `problems`.
    """
    with _opened(path) as file:
        reader = csv.reader(file, strict=True)
        try:
            header = [name.strip() for name in _next_cells(reader, path) or []]
        except RowError as error:
            raise DataError(f"{path.name}:1: the header {error.problem}; mend it") from None
        missing = [column for column in columns if column not in header]
        if missing and any("\0" in name or _NOT_UTF8.search(name) for name in header):
            raise DataError(f"{path.name}:1: the header is not UTF-8; save the file as UTF-8")
        if missing:
            raise DataError(f"{path.name}: no column {', '.join(missing)}; its first line has to name {', '.join(columns)}")
        name, finished = path.name, False
        while not finished:
            line = reader.line_num + 1
            row: CsvRow | None = None
            with problems.at(name, line):
                cells = _next_cells(reader, path)
                finished = cells is None
                if cells:
                    row = CsvRow(file=name, line=line, cells=_by_column(header, cells))
            if row is not None:
                yield row


def _opened(path: Path) -> TextIO:
    """A file that is read line by line; bytes that are not UTF-8 stay marked, so that the row they stand in can be named."""
    try:
        content = gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115
    except FileNotFoundError:
        raise DataError(f"no such file {path}; a dataset of this kind needs it, or is dataset.root another folder?") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    return io.TextIOWrapper(cast(BinaryIO, content), encoding="utf-8-sig", errors="surrogateescape", newline="")


def _next_cells(reader: Iterator[list[str]], path: Path) -> list[str] | None:
    """None at the end of the file."""
    try:
        return next(reader, None)
    except csv.Error as error:
        reason = "a quote is opened and never closed" if "unexpected end" in str(error) else str(error)
        raise RowError(f"cannot be read as csv ({reason})") from None
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"cannot read {path} ({error}); is the file whole?")


def _by_column(header: list[str], cells: list[str]) -> dict[str, str]:
    if len(cells) != len(header):
        raise RowError(f"has {len(cells)} cells where the header has {len(header)}")
    whole = "".join(cells)
    if whole.isascii() and "\0" not in whole:  # nearly all: no need to look at each cell
        return dict(zip(header, cells, strict=True))
    for column, cell in zip(header, cells, strict=True):
        if _NOT_UTF8.search(cell):
            raise RowError(f"{column} is not UTF-8 ({shown(cell)})", "save the file as UTF-8")
        if "\0" in cell:
            raise RowError(f"{column} has a NUL byte ({shown(cell)})")
    return dict(zip(header, cells, strict=True))
