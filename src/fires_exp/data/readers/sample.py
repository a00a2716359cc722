"""The corpus that is shipped with the project: MESC's layout, videos included, so that everything can be tried at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fires_exp.data.readers.mesc import read_mesc
from fires_exp.data.readers.row_errors import RowProblems
from fires_exp.data.records import Conversation

SAMPLE_ROOT = Path(__file__).parents[1] / "sample_corpus"
SAMPLE_VIDEO_ROOT = SAMPLE_ROOT / "videos"


def read_sample(*, video_pattern: str, problems: RowProblems) -> tuple[Conversation, ...]:
    return read_mesc(SAMPLE_ROOT, corpus="sample", video_pattern=video_pattern, problems=problems)


def sample_texts() -> Iterator[str]:
    """The lines of the sample's tables, for tokenizers to learn from."""
    for name in ("MESC.csv", "notes.csv"):
        yield from (SAMPLE_ROOT / name).read_text(encoding="utf-8").splitlines()
