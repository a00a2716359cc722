"""The conversation before an answer, with its frames, from the dataset of a run."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from PIL import Image
from tqdm import tqdm

from fires_exp.config.data import DatasetConfig, FramesConfig
from fires_exp.data.dataset import read_dataset
from fires_exp.data.records import Split, SupportExample
from fires_exp.data.video.frames import FrameReader, scaled_down
from fires_exp.errors import StudyError
from fires_exp.human_eval.study import ShownTurn
from fires_exp.human_eval.systems import Prediction, run_config

T = TypeVar("T")

FRAME_PIXELS = 320 * 240  # of a frame on the page, so that a hundred instances are small enough to send
JPEG_QUALITY = 80


@dataclass(frozen=True, kw_only=True, slots=True)
class HistorySettings:
    """The part of a run's configuration that determines the histories."""

    run_folder: Path
    dataset: DatasetConfig
    frames: FramesConfig
    seed: int
    split: Split
    cache: Path


def context_only(prediction: Prediction) -> tuple[ShownTurn, ...]:
    """The seeker's last turn, which a predictions file has itself."""
    return (ShownTurn(speaker="seeker", text=prediction.context, frames=()),) if prediction.context else ()


def read_histories(run_folders: Sequence[Path], predictions: Sequence[Prediction]) -> Mapping[str, tuple[ShownTurn, ...]]:
    """The full history of each prediction's instance, by id, from the first run with frames, else from the first run: raters see
    the frames also where one of the systems did not."""
    settings = [_settings(folder) for folder in run_folders]
    chosen = next((candidate for candidate in settings if candidate.frames.name != "none"), settings[0])
    dataset = read_dataset(chosen.dataset, chosen.seed, chosen.cache)
    examples = {example.id: example for example in dataset.examples[chosen.split]}
    for prediction in predictions:
        _check(examples.get(prediction.id), prediction, chosen.run_folder)
    reader = FrameReader(chosen.frames, dataset.video_root, chosen.cache / "frames")
    bar = tqdm(predictions, desc="reading histories", unit="instance", disable=None)
    return {prediction.id: _shown(examples[prediction.id], reader) for prediction in bar}


def _check(example: SupportExample | None, prediction: Prediction, folder: Path) -> None:
    """Raises `StudyError` where the dataset has changed since the run, so that the answer would be shown below another turn."""
    if example is None or (prediction.context and prediction.context != example.last_seeker_text):
        problem = "is not in" if example is None else "differs in"
        raise StudyError(
            f"instance {prediction.id} {problem} the dataset of {folder}; restore the dataset, or write --context-only"
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


def _settings(run_folder: Path) -> HistorySettings:
    tree = run_config(run_folder)
    try:
        return HistorySettings(
            run_folder=run_folder,
            dataset=_section(DatasetConfig, tree["test_dataset"] or tree["dataset"]),
            frames=_section(FramesConfig, tree["frames"]),
            seed=tree["seed"],
            split=tree["predict"]["split"],
            cache=Path(tree["paths"]["cache"]).expanduser().absolute(),
        )
    except (KeyError, TypeError, OmegaConfBaseException) as error:
        problem = str(error).strip().splitlines()[0]
        raise StudyError(
            f"{run_folder / 'resolved.yaml'} does not say which histories to read ({problem}); run again, or write --context-only"
        ) from None


def _section(schema: type[T], values: Mapping[str, Any]) -> T:
    """One section of the configuration, checked against its schema."""
    return cast(T, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), values)))
