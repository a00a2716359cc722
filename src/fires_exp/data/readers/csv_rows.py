"""CSV files, row by row, with the line numbers that a text editor shows."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from fires_exp.data.readers.row_errors import RowError, RowProblems, quoted
from fires_exp.data.readers.utterances import clean_text
from fires_exp.errors import DataError

_CLOCK = re.compile(r"(\d{1,2}):([0-5]\d):([0-5]\d)[,.]", re.ASCII)
_MILLISECONDS = {f"{number:03d}": number for number in range(1000)}
_MAX_TIME_LENGTH = len("HH:MM:SS,mmm")
_MAX_DIGITS = 9
_CACHED_CELLS = 8192  # neighboring rows of a corpus share most of their numbers and times
_NOT_UTF8 = re.compile("[\udc80-\udcff]")  # how `surrogateescape` marks a byte that is not UTF-8


@dataclass(kw_only=True, slots=True)  # not frozen: there is one for every row of a corpus, and creating it would take 3x as long
class CsvRow:
    """A row's cells by column name. Its methods raise `RowError` where a cell does not hold the expected type."""

    file: str
    line: int
    cells: Mapping[str, str]

    def number(self, column: str) -> int:
        """An integer of at least 0."""
        cell = self.cells[column].strip()
        number = _integer(cell) if len(cell) <= _MAX_DIGITS else None
        if number is None:
            raise RowError(f"{column} {quoted(cell)} is not a whole number of at least 0")
        return number

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
        clock = _clock_seconds(cell[:-3]) if len(cell) <= _MAX_TIME_LENGTH else None
        milliseconds = _MILLISECONDS.get(cell[-3:])
        if clock is None or milliseconds is None:
            raise RowError(f"{column} {quoted(cell)} is not HH:MM:SS,mmm")
        return (clock * 1000 + milliseconds) / 1000


@lru_cache(maxsize=_CACHED_CELLS)
def _integer(cell: str) -> int | None:
    return int(cell) if cell.isdigit() and cell.isascii() else None


@lru_cache(maxsize=_CACHED_CELLS)
def _clock_seconds(text: str) -> int | None:
    """The seconds of `HH:MM:SS,`."""
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    hours, minutes, seconds = map(int, match.groups())
    return (hours * 60 + minutes) * 60 + seconds


def read_csv(path: Path, columns: Sequence[str], problems: RowProblems) -> Iterator[CsvRow]:
    """The rows of a UTF-8 file with a header; `.gz` is unpacked, blank lines are skipped.

    A missing file or column raises `DataError`; a row that cannot be read is added to `problems`.
    """
    with _open(path) as file:
        reader = csv.reader(file, strict=True)
        try:
            header = [name.strip() for name in _next_cells(reader, path) or []]
        except RowError as error:
            raise DataError(f"{path.name}:1: the header {error.problem}; correct it") from None
        missing = [column for column in columns if column not in header]
        if missing and any("\0" in name or _NOT_UTF8.search(name) for name in header):
            raise DataError(f"{path.name}:1: the header is not UTF-8; save the file as UTF-8")
        if missing:
            raise DataError(f"{path.name}: no column {', '.join(missing)}; the first line must name {', '.join(columns)}")
        name = path.name
        while True:
            line = reader.line_num + 1
            try:
                cells = _next_cells(reader, path)
                row = CsvRow(file=name, line=line, cells=_cells_by_column(header, cells)) if cells else None
            except RowError as error:
                problems.add(name, line, error)
                continue
            if row is not None:
                yield row
            elif cells is None:
                return


def _open(path: Path) -> TextIO:
    """A file that is decoded line by line. Bytes that are not UTF-8 stay marked, so that an error can name their row."""
    try:
        content = gzip.open(path) if path.suffix == ".gz" else path.open("rb")  # noqa: SIM115
    except FileNotFoundError:
        raise DataError(f"file {path} is missing; add it, or set dataset.root to the folder that has it") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    return io.TextIOWrapper(cast(BinaryIO, content), encoding="utf-8-sig", errors="surrogateescape", newline="")


def _next_cells(reader: Iterator[list[str]], path: Path) -> list[str] | None:
    """None at the end of the file."""
    try:
        return next(reader, None)
    except csv.Error as error:
        reason = "a quote is never closed" if "unexpected end" in str(error) else str(error)
        raise RowError(f"cannot be read as csv ({reason})") from None
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"cannot read {path} ({error}); check that the file is complete")


def _cells_by_column(header: list[str], cells: list[str]) -> dict[str, str]:
    if len(cells) != len(header):
        raise RowError(f"has {len(cells)} cells, but the header has {len(header)}")
    joined = "".join(cells)
    if joined.isascii() and "\0" not in joined:  # nearly all rows: no need to check each cell
        return dict(zip(header, cells, strict=True))
    for column, cell in zip(header, cells, strict=True):
        if _NOT_UTF8.search(cell):
            raise RowError(f"{column} is not UTF-8 ({quoted(cell)})", "save the file as UTF-8")
        if "\0" in cell:
            raise RowError(f"{column} has a NUL byte ({quoted(cell)})")
    return dict(zip(header, cells, strict=True))
