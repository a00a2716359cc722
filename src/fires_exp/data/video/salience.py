"""The choice of salient frames with OpenCV: those that differ most, in the whole picture and in the face."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fires_exp.config.data import SalientConfig
from fires_exp.errors import ConfigError

_THUMBNAIL_SIZE = 32  # side of the thumbnails that are compared, in pixels
_FACE_SIZE = 48  # side of the faces that are compared; the middle of one is searched for in the other
_FACE_SHIFT = 8  # the most pixels by which two faces may be shifted in their boxes
_DETECTION_WIDTH = 320  # width of the frame in which faces are detected: finds a face of a tenth of it in about 20 ms
_FRAME_HEIGHTS_PER_FACE = 8  # a face is at least this fraction of the frame's height
_MIN_NEIGHBORS = 5  # overlapping detections that make a face
_MIN_CONTRAST = 0.01  # a frame with less contrast is black or in a fade
_REINSTALL = "install it again: pip install --force-reinstall opencv-python-headless"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FrameFeatures:
    """The features by which frames are compared: a thumbnail, [32, 32, 3] in Lab from 0 to 1, and the largest face, [48, 48] in
    gray, or None."""

    thumbnail: NDArray[np.float32]
    face: NDArray[np.uint8] | None

    @property
    def contrast(self) -> float:
        """The standard deviation of the channel that varies most over the thumbnail."""
        return float(self.thumbnail.std(axis=(0, 1)).max())


def check_installed() -> None:
    """Raises `ConfigError` if OpenCV cannot be imported, or if its face detection model is missing."""
    try:
        model = _face_model_file()
    except ModuleNotFoundError:
        raise ConfigError("frames=salient needs a package that is not installed: pip install fires-exp[salient]") from None
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"frames=salient: OpenCV cannot be imported ({error}); {_REINSTALL}") from None
    if not Path(model).is_file():
        raise ConfigError(f"frames=salient: OpenCV's face detection model {model} is missing; {_REINSTALL}")


def frame_features(frame: Image.Image) -> FrameFeatures:
    """The features of an RGB frame."""
    cv2 = _cv2()
    pixels = np.asarray(frame)
    thumbnail = cv2.resize(pixels, (_THUMBNAIL_SIZE, _THUMBNAIL_SIZE), interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(thumbnail, cv2.COLOR_RGB2LAB)
    scale = min(1.0, _DETECTION_WIDTH / frame.width)
    size = (max(1, round(frame.width * scale)), max(1, round(frame.height * scale)))
    gray = cv2.cvtColor(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    smallest = max(20, size[1] // _FRAME_HEIGHTS_PER_FACE)
    boxes = _face_detector().detectMultiScale(gray, minNeighbors=_MIN_NEIGHBORS, minSize=(smallest, smallest))
    face = None
    if len(boxes):
        left, top, width, height = max(boxes, key=lambda box: int(box[2]) * int(box[3]))
        box = gray[top : top + height, left : left + width]
        face = cv2.resize(box, (_FACE_SIZE, _FACE_SIZE), interpolation=cv2.INTER_AREA)
    return FrameFeatures(thumbnail=lab.astype(np.float32) / 255, face=face)


def salient_indices(features: Sequence[FrameFeatures], count: int, config: SalientConfig) -> list[int]:
    """At most `count` indices into `features`, sorted.

    Frames are selected farthest first, until the next one would differ by less than `least_change`. Then the frames are grouped
    by the nearest selected one, and the most typical frame of each group is returned. Frames with a face are preferred, and
    frames without contrast are only used if there are no others.
    """
    usable = [index for index, frame in enumerate(features) if frame.contrast >= _MIN_CONTRAST] or list(range(len(features)))
    distances = _distances([features[index] for index in usable], config.face_weight)
    has_face = np.array([features[index].face is not None for index in usable])
    selected = [_most_typical(np.arange(len(usable)), distances, has_face)]
    while len(selected) < count:
        nearest = distances[:, selected].min(axis=1)
        farthest = int((nearest * np.where(has_face, config.face_bonus, 1.0)).argmax())
        if nearest[farthest] < config.least_change:
            break
        selected.append(farthest)
    groups = distances[:, selected].argmin(axis=1)
    typical = (_most_typical(np.flatnonzero(groups == group), distances, has_face) for group in range(len(selected)))
    return sorted(usable[index] for index in typical)


def _most_typical(members: NDArray[np.int64], distances: NDArray[np.float64], has_face: NDArray[np.bool_]) -> int:
    """The member nearest to all others; a member with a face if there is one."""
    candidates = members[has_face[members]] if has_face[members].any() else members
    return int(candidates[distances[np.ix_(candidates, members)].sum(axis=1).argmin()])


def _distances(features: Sequence[FrameFeatures], face_weight: float) -> NDArray[np.float64]:
    """[F, F]: the mean change of the thumbnails, 0 to 1, plus `face_weight` times the change of the faces if both have one."""
    thumbnails = np.stack([frame.thumbnail for frame in features])
    distances = np.array([np.abs(thumbnails - other).mean(axis=(1, 2, 3)) for other in thumbnails], dtype=np.float64)
    for row, frame in enumerate(features):
        for column in range(row):
            change = face_weight * _face_change(frame.face, features[column].face)
            distances[row, column] += change
            distances[column, row] += change
    return distances


def _face_change(face: NDArray[np.uint8] | None, other: NDArray[np.uint8] | None) -> float:
    """0 for the same face, also if it is shifted in its box or brighter, up to 1 for faces without any correlation."""
    if face is None or other is None:
        return 0.0
    cv2 = _cv2()
    middle = slice(_FACE_SHIFT, -_FACE_SHIFT)
    correlations = [
        float(cv2.matchTemplate(image, template[middle, middle], cv2.TM_CCOEFF_NORMED).max())
        for image, template in ((face, other), (other, face))
    ]
    return 1 - min(1.0, max(0.0, sum(correlations) / 2))


@functools.cache
def _cv2() -> Any:
    import cv2

    cv2.setNumThreads(1)  # OpenCV's threads do not survive the fork of a worker process
    return cv2


@functools.cache
def _face_detector() -> Any:
    """Detects frontal faces, with the cascade that OpenCV ships."""
    return _cv2().CascadeClassifier(_face_model_file())


def _face_model_file() -> str:
    return str(_cv2().data.haarcascades) + "haarcascade_frontalface_default.xml"
