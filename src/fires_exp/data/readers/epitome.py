"""Pairs of a seeker's post and a response, labeled with levels of support skills: EPITOME's published layout.

A folder holds one csv a mechanism, `emotional-reactions*.csv`, `interpretations*.csv` and `explorations*.csv`, each with the
columns sp_id, rp_id, seeker_post, response_post, level (0, 1 or 2) and rationales (pieces of the response, separated by `|`).
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
from fires_exp.data.readers.row_errors import RowError, RowProblems, shown
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
    """A mechanism's level and the spans [start, end) of the response, in characters, that carry it.

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
    """The pairs of a folder, or of the sample for None; of a pair that stands there twice, the first.

    Raises `DataError` where a file is missing, a row is wrong, or the three files do not hold the same pairs.
    """
    folder = SAMPLE_PAIRS if folder is None else folder
    if not folder.is_dir():
        raise DataError(f"no such folder {folder}; write epitome.data=<folder with EPITOME's csv files>, or null for the sample")
    tables = [_read_table(_file_of(folder, stem)) for stem in MECHANISM_FILES.values()]
    first = tables[0]
    for table in tables[1:]:
        for key in first.keys() ^ table.keys():
            file, line = (first.get(key) or table[key]).place
            raise DataError(f"{file}:{line}: the pair {' '.join(key)} does not stand in all three files; add it or take it out")
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
    """A seeded split by seeker post: no post, whatever its id, stands on two sides. Fractions are of the posts.

    Raises `DataError` where a split would be empty.
    """
    posts = sorted({pair.seeker for pair in pairs})
    random.Random(f"{seed}/support_pairs").shuffle(posts)  # noqa: S311  a draw, not a secret
    first, second = round(test_fraction * len(posts)), round((test_fraction + val_fraction) * len(posts))
    side: dict[str, Split] = {
        post: "test" if place < first else "val" if place < second else "train" for place, post in enumerate(posts)
    }
    split = {name: tuple(pair for pair in pairs if side[pair.seeker] == name) for name in SPLITS}
    for name, members in split.items():
        if not members:
            raise DataError(f"{len(posts)} seeker posts are too few: the {name} split is empty; add pairs, or raise its fraction")
    return split


def pairs_hash(pairs: Sequence[SupportPair]) -> str:
    """64 hex digits that change with any pair's text, level or span, and with their order."""
    digest = hashlib.sha256()
    for pair in pairs:
        labels = [[label.level, label.spans] for label in pair.labels]
        digest.update(json.dumps([pair.seeker_id, pair.response_id, pair.seeker, pair.response, labels]).encode() + b"\n")
    return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    place: tuple[str, int]
    seeker: str
    response: str
    label: SkillLabel


def _file_of(folder: Path, stem: str) -> Path:
    found = sorted(folder.glob(f"{stem}*.csv"))
    if len(found) != 1:
        problem = "no file" if not found else f"{len(found)} files"
        raise DataError(f"{folder}: {problem} {stem}*.csv; EPITOME's layout has exactly one a mechanism")
    return found[0]


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
        raise RowError(f"response_post {shown(response)} is empty")
    return _Row(
        place=(row.file, row.line),
        seeker=row.text("seeker_post"),
        response=response,
        label=SkillLabel(level=level, spans=rationale_spans(response, row.cells["rationales"])),
    )


def rationale_spans(response: str, rationales: str) -> tuple[tuple[int, int], ...]:
    """Where the `|`-separated pieces stand in the response. A piece that does not stand there word by word is passed over: some
    hundred of the published ones do not."""
    spans = []
    for piece in rationales.split("|"):
        words = piece.strip()
        place = response.find(words) if words else -1
        if place >= 0:
            spans.append((place, place + len(words)))
    return tuple(sorted(spans))
