"""The corpus that is shipped with the project, in MESC's layout and with its videos, so that every step can be tried at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fires_exp.data.readers.interface import ReadRequest, examples_of
from fires_exp.data.readers.mesc import read_mesc
from fires_exp.data.readers.row_errors import RowProblems
from fires_exp.data.records import Conversation, SupportExample
from fires_exp.errors import DataError

SAMPLE_ROOT = Path(__file__).parents[1] / "sample_corpus"
SAMPLE_VIDEO_ROOT = SAMPLE_ROOT / "videos"


def read_sample_dataset(request: ReadRequest) -> tuple[SupportExample, ...]:
    """The instances of `dataset=sample`. Raises `DataError` for a `dataset.root`."""
    if request.root is not None:
        raise DataError(
            f"dataset.root={request.root} does not apply to dataset=sample; write dataset=mesc to read a folder in its layout"
        )
    return examples_of(read_sample(video_pattern=request.video_pattern, problems=request.problems))


def read_sample(*, video_pattern: str, problems: RowProblems) -> tuple[Conversation, ...]:
    return read_mesc(SAMPLE_ROOT, corpus="sample", video_pattern=video_pattern, problems=problems)


def sample_texts() -> Iterator[str]:
    """The lines of the sample's tables, as training text for tokenizers."""
    for name in ("MESC.csv", "notes.csv"):
        yield from (SAMPLE_ROOT / name).read_text(encoding="utf-8").splitlines()
