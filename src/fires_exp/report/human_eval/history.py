"""The conversation before an answer, with its frames, read again from the dataset that a run names."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from fires_exp.config.schema import Config
from fires_exp.data.frames import FrameReader, scaled_down
from fires_exp.data.read import read_dataset
from fires_exp.data.records import Split, SupportExample
from fires_exp.errors import StudyError
from fires_exp.report.human_eval.study import ShownTurn
from fires_exp.report.human_eval.systems import Prediction, run_config

FRAME_PIXELS = 320 * 240  # of a frame on the page: a hundred instances should still be small enough to send
JPEG_QUALITY = 80


def context_only(prediction: Prediction) -> tuple[ShownTurn, ...]:
    """The seeker's last turn, all that a predictions file itself holds."""
    return (ShownTurn(speaker="seeker", text=prediction.context, frames=()),) if prediction.context else ()


def read_histories(run_folders: Sequence[Path], predictions: Sequence[Prediction]) -> Mapping[str, tuple[ShownTurn, ...]]:
    """The whole history of each prediction's instance, by id. Of several runs the first that shows frames is asked, since a
    system without video is judged beside what there was to see."""
    configs = {folder: run_config(folder) for folder in run_folders}
    folder = next((folder for folder, config in configs.items() if config.frames.name != "none"), run_folders[0])
    config = configs[folder]
    dataset = read_dataset(config.test_dataset or config.dataset, config.seed)
    split: Split = config.predict.split  # type: ignore[assignment]
    examples = {example.id: example for example in dataset.examples[split]}
    for prediction in predictions:
        _check(examples.get(prediction.id), prediction, folder)
    reader = FrameReader(config.frames, dataset.video_root, _frame_cache(config))
    bar = tqdm(predictions, desc="reading histories", unit="instance", disable=None)
    return {prediction.id: _shown(examples[prediction.id], reader) for prediction in bar}


def _check(example: SupportExample | None, prediction: Prediction, folder: Path) -> None:
    """A dataset that has changed since would put answers under conversations that they do not answer."""
    if example is None or (prediction.context and prediction.context != example.last_seeker_text):
        what = "is not in" if example is None else "reads otherwise in"
        raise StudyError(
            f"instance {prediction.id} {what} the dataset that {folder} names; mend the dataset, or write --context-only"
        )


def _shown(example: SupportExample, reader: FrameReader) -> tuple[ShownTurn, ...]:
    return tuple(
        ShownTurn(speaker=turn.speaker, text=turn.text, frames=tuple(_jpeg(frame) for frame in frames))
        for turn, frames in zip(example.history, reader.frames_of(example), strict=True)
    )


def _jpeg(frame: Image.Image) -> bytes:
    buffer = io.BytesIO()
    scaled_down(frame, FRAME_PIXELS).save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _frame_cache(config: Config) -> Path:
    return Path(config.paths.cache).expanduser().absolute() / "frames"
