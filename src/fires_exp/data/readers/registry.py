"""The reader of every dataset.

A new dataset is one file in this folder and one line here; its name is added to `config.data.DatasetName` and its options are a
file in `conf/dataset/`.
"""

from __future__ import annotations

from collections.abc import Mapping

from fires_exp.config.data import DatasetName
from fires_exp.data.readers.emotyda import read_emotyda_dataset
from fires_exp.data.readers.interface import DatasetReader
from fires_exp.data.readers.jsonl import read_jsonl_dataset
from fires_exp.data.readers.mesc import read_mesc_dataset
from fires_exp.data.readers.sample import SAMPLE_VIDEO_ROOT, read_sample_dataset

READERS: Mapping[DatasetName, DatasetReader] = {
    DatasetName.sample: DatasetReader(read=read_sample_dataset, shipped_videos=SAMPLE_VIDEO_ROOT),
    DatasetName.mesc: DatasetReader(read=read_mesc_dataset),
    DatasetName.emotyda_esc: DatasetReader(read=read_emotyda_dataset),
    DatasetName.jsonl: DatasetReader(read=read_jsonl_dataset),
}
