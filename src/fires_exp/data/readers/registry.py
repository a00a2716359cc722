"""Every dataset, by its name in `dataset.name`. A new dataset is one file in this folder and one line here."""

from __future__ import annotations

from collections.abc import Mapping

from fires_exp.data.readers.emotyda import read_emotyda_dataset
from fires_exp.data.readers.interface import DatasetReader
from fires_exp.data.readers.jsonl import read_jsonl_dataset
from fires_exp.data.readers.mesc import read_mesc_dataset
from fires_exp.data.readers.sample import SAMPLE_VIDEO_ROOT, read_sample_dataset

READERS: Mapping[str, DatasetReader] = {
    "sample": DatasetReader(read=read_sample_dataset, shipped_videos=SAMPLE_VIDEO_ROOT),
    "mesc": DatasetReader(read=read_mesc_dataset),
    "emotyda_esc": DatasetReader(read=read_emotyda_dataset),
    "jsonl": DatasetReader(read=read_jsonl_dataset),
}
