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

from fires_exp.data.bad_rows import RowError, RowProblems, shown
from fires_exp.data.turns import clean_text
from fires_exp.errors import DataError

_TIME = re.compile(r"(\d{1,2}):([0-5]\d):([0-5]\d)[,.](\d{3})", re.ASCII)
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)
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
        if not _NUMBER.fullmatch(cell):
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
        hours, minutes, seconds, milliseconds = map(int, time.groups())
        return (((hours * 60 + minutes) * 60 + seconds) * 1000 + milliseconds) / 1000


def read_csv(path: Path, columns: Sequence[str], problems: RowProblems) -> Iterator[CsvRow]:
    """The rows of a UTF-8 file with a header; `.gz` is unpacked, blank lines are passed over.

    A missing file or column raises `DataError`; a row that cannot be read goes to `problems`.
    """
    reader = csv.reader(io.StringIO(_text_of(path), newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as error:
        raise DataError(f"{path.name}:1: the header cannot be read as csv ({error}); mend it") from None
    missing = [column for column in columns if column not in header]
    if missing:
        raise DataError(f"{path.name}: no column {', '.join(missing)}; its first line has to name {', '.join(columns)}")
    finished = False
    while not finished:
        line = reader.line_num + 1
        row: CsvRow | None = None
        with problems.at(path.name, line):
            cells = _next_cells(reader)
            finished = cells is None
            if cells:
                row = CsvRow(file=path.name, line=line, cells=_by_column(header, cells))
        if row is not None:
            yield row


def _text_of(path: Path) -> str:
    """The whole file; bytes that are not UTF-8 stay marked, so that the row they stand in can be named."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"no such file {path}; a dataset of this kind needs it, or is dataset.root another folder?") from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot read {path} ({error}); is the file whole?") from None
    return content.decode("utf-8-sig", errors="surrogateescape")


def _next_cells(reader: Iterator[list[str]]) -> list[str] | None:
    """None at the end of the file."""
    try:
        return next(reader, None)
    except csv.Error as error:
        reason = "a quote is opened and never closed" if "unexpected end" in str(error) else str(error)
        raise RowError(f"cannot be read as csv ({reason})") from None


def _by_column(header: list[str], cells: list[str]) -> dict[str, str]:
    if len(cells) != len(header):
        raise RowError(f"has {len(cells)} cells where the header has {len(header)}")
    for column, cell in zip(header, cells, strict=True):
        if _NOT_UTF8.search(cell):
            raise RowError(f"{column} is not UTF-8 ({shown(cell)})", "save the file as UTF-8")
        if "\0" in cell:
            raise RowError(f"{column} has a NUL byte ({shown(cell)})")
    return dict(zip(header, cells, strict=True))
