"""Pairs of a seeker's post and a response, labeled with levels of support skills, in EPITOME's published layout.

A folder holds one csv file per mechanism, `emotional-reactions*.csv`, `interpretations*.csv` and `explorations*.csv`, with the
columns sp_id, rp_id, seeker_post, response_post, level (0, 1 or 2) and rationales (parts of the response, separated by `|`).
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fires_exp.config.data import BadRowPolicy
from fires_exp.data.readers.csv_rows import CsvRow, read_csv
from fires_exp.data.readers.row_errors import RowError, RowProblems, quoted
from fires_exp.data.readers.sample import SAMPLE_ROOT
from fires_exp.data.records import SPLITS, Split
from fires_exp.errors import DataError

SAMPLE_PAIRS = SAMPLE_ROOT / "support_skills"
MECHANISM_FILES = {
    "emotional_reactions": "emotional-reactions",
    "interpretations": "interpretations",
    "explorations": "explorations",
}
_COLUMNS = ("sp_id", "rp_id", "seeker_post", "response_post", "level", "rationales")


@dataclass(frozen=True, kw_only=True, slots=True)
class SkillLabel:
    """The level of a mechanism and its rationales: spans [start, end) of the response, in characters.

    >>> SkillLabel(level=2, spans=((0, 11),))
    SkillLabel(level=2, spans=((0, 11),))
    """

    level: int
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SupportPair:
    """A response to a post, with its label for each mechanism, in the order of `MECHANISM_FILES`."""

    seeker_id: str
    response_id: str
    seeker: str
    response: str
    labels: tuple[SkillLabel, SkillLabel, SkillLabel]


def read_support_pairs(folder: Path | None) -> tuple[SupportPair, ...]:
    """The pairs of a folder, or those of the sample for None; the first row of a pair that occurs twice.

    Raises `DataError` if a file is missing, a row is invalid, or the three files do not hold the same pairs.
    """
    folder = SAMPLE_PAIRS if folder is None else folder
    if not folder.is_dir():
        raise DataError(f"epitome.data={folder} is not a folder; write epitome.data=<folder with EPITOME's csv files>, or null")
    tables = [_read_table(_mechanism_file(folder, stem)) for stem in MECHANISM_FILES.values()]
    first = tables[0]
    for table in tables[1:]:
        for key in first.keys() ^ table.keys():
            row = first.get(key) or table[key]
            raise DataError(f"{row.file}:{row.line}: the pair {' '.join(key)} is not in all three files; add it or remove it")
    return tuple(
        SupportPair(
            seeker_id=key[0],
            response_id=key[1],
            seeker=row.seeker,
            response=row.response,
            labels=(row.label, tables[1][key].label, tables[2][key].label),
        )
        for key, row in first.items()
    )


def split_pairs(
    pairs: Sequence[SupportPair], *, val_fraction: float, test_fraction: float, seed: int
) -> dict[Split, tuple[SupportPair, ...]]:
    """A seeded split by seeker post: equal posts are in one split, even under different ids. Fractions are of the posts.

    Raises `DataError` if a split would be empty.
    """
    posts = sorted({pair.seeker for pair in pairs})
    random.Random(f"{seed}/support_pairs").shuffle(posts)  # noqa: S311  a draw, not a secret
    test_end, val_end = round(test_fraction * len(posts)), round((test_fraction + val_fraction) * len(posts))
    split_of_post: dict[str, Split] = {
        post: "test" if index < test_end else "val" if index < val_end else "train" for index, post in enumerate(posts)
    }
    pairs_by_split = {split: tuple(pair for pair in pairs if split_of_post[pair.seeker] == split) for split in SPLITS}
    for split, members in pairs_by_split.items():
        if not members:
            raise DataError(f"{len(posts)} seeker posts are too few: the {split} split is empty; add pairs or raise its fraction")
    return pairs_by_split


def pairs_hash(pairs: Sequence[SupportPair]) -> str:
    """64 hex digits that change with any pair's text, level or span, and with their order."""
    digest = hashlib.sha256()
    for pair in pairs:
        labels = [[label.level, label.spans] for label in pair.labels]
        digest.update(json.dumps([pair.seeker_id, pair.response_id, pair.seeker, pair.response, labels]).encode() + b"\n")
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    file: str
    line: int
    seeker: str
    response: str
    label: SkillLabel


def _mechanism_file(folder: Path, stem: str) -> Path:
    files = sorted(folder.glob(f"{stem}*.csv"))
    if len(files) != 1:
        count = f"{len(files)} files" if files else "no file"
        raise DataError(f"{folder} has {count} {stem}*.csv; EPITOME's layout has exactly one per mechanism")
    return files[0]


def _read_table(path: Path) -> dict[tuple[str, str], _Row]:
    table: dict[tuple[str, str], _Row] = {}
    problems = RowProblems(BadRowPolicy.skip)
    for row in read_csv(path, _COLUMNS, problems):
        with problems.at(row.file, row.line):
            table.setdefault((row.text("sp_id"), row.text("rp_id")), _read_row(row))
    if problems.rows:
        raise DataError(str(problems.rows[0]))
    return table


def _read_row(row: CsvRow) -> _Row:
    level = row.number("level")
    if level > 2:
        raise RowError(f"level {level} is not 0, 1 or 2")
    response = row.cells["response_post"]
    if not response.strip():
        raise RowError(f"response_post {quoted(response)} is empty")
    return _Row(
        file=row.file,
        line=row.line,
        seeker=row.text("seeker_post"),
        response=response,
        label=SkillLabel(level=level, spans=rationale_spans(response, row.cells["rationales"])),
    )


def rationale_spans(response: str, rationales: str) -> tuple[tuple[int, int], ...]:
    """The spans of the `|`-separated rationales in the response, sorted.

    A rationale that is no exact part of the response is dropped; some hundred of the published ones are not.
    """
    spans = []
    for rationale in rationales.split("|"):
        text = rationale.strip()
        start = response.find(text) if text else -1
        if start >= 0:
            spans.append((start, start + len(text)))
    return tuple(sorted(spans))
