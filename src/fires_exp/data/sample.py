"""The corpus that is shipped with the project: MESC's layout, videos included, so that everything can be tried at once."""

from __future__ import annotations

from pathlib import Path

from fires_exp.data.bad_rows import RowProblems
from fires_exp.data.mesc import read_mesc
from fires_exp.data.records import Conversation

SAMPLE_ROOT = Path(__file__).parent / "sample_corpus"
SAMPLE_VIDEO_ROOT = SAMPLE_ROOT / "videos"


def read_sample(*, video_pattern: str, problems: RowProblems) -> tuple[Conversation, ...]:
    return read_mesc(SAMPLE_ROOT, corpus="sample", video_pattern=video_pattern, problems=problems)
