"""Which frames of a span are worth seeing: those that differ most, in the whole picture and in the face, by OpenCV."""

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

_PICTURE = 32  # side of the small picture that is compared
_FACE = 48  # side of a face that is compared; its middle is looked for in the other
_SEARCH = 8  # by how much two faces may lie apart in their boxes
_DETECTION_WIDTH = 320  # of the frame in which faces are looked for: a face of a tenth of it is found, in some 20 ms
_SMALLEST_FACE = 8  # times a face's height makes up the frame's
_NEIGHBORS = 5  # overlapping finds that make a face
_FLAT = 0.01  # a picture with less contrast is a black one or a fade
_ANEW = "install it anew: pip install --force-reinstall opencv-python-headless"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Look:
    """What is compared of a frame: the picture in small, [32, 32, 3] in Lab from 0 to 1, and its largest face, [48, 48] in gray,
    or None."""

    picture: NDArray[np.float32]
    face: NDArray[np.uint8] | None

    @property
    def contrast(self) -> float:
        """Of the channel that varies most over the picture."""
        return float(self.picture.std(axis=(0, 1)).max())


def check_installed() -> None:
    """Raises `ConfigError` where OpenCV does not load, or where the model of faces that comes with it is missing."""
    try:
        faces = _cascade()
    except ModuleNotFoundError:
        raise ConfigError("frames=salient needs a package that is not installed: pip install fires-exp[salient]") from None
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"frames=salient: OpenCV does not load ({error}); {_ANEW}") from None
    if not Path(faces).is_file():
        raise ConfigError(f"frames=salient: OpenCV lacks its model of faces, {faces}; {_ANEW}")


def look_at(frame: Image.Image) -> Look:
    """A frame's `Look`."""
    cv2 = _cv2()
    pixels = np.asarray(frame)
    lab = cv2.cvtColor(cv2.resize(pixels, (_PICTURE, _PICTURE), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2LAB)
    scale = min(1.0, _DETECTION_WIDTH / frame.width)
    size = (max(1, round(frame.width * scale)), max(1, round(frame.height * scale)))
    gray = cv2.cvtColor(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    smallest = max(20, size[1] // _SMALLEST_FACE)
    boxes = _face_detector().detectMultiScale(gray, minNeighbors=_NEIGHBORS, minSize=(smallest, smallest))
    face = None
    if len(boxes):
        left, top, width, height = max(boxes, key=lambda box: int(box[2]) * int(box[3]))
        face = cv2.resize(gray[top : top + height, left : left + width], (_FACE, _FACE), interpolation=cv2.INTER_AREA)
    return Look(picture=lab.astype(np.float32) / 255, face=face)


def salient_places(looks: Sequence[Look], count: int, config: SalientConfig) -> list[int]:
    """At most `count` places in `looks`, in order: those farthest from each other, as long as they differ by `least_change`, and
    of what each stands for the most typical one. Faces go before."""
    usable = [place for place, look in enumerate(looks) if look.contrast >= _FLAT] or list(range(len(looks)))
    distances = _distances([looks[place] for place in usable], config.face_weight)
    with_face = np.array([looks[place].face is not None for place in usable])
    chosen = [_most_typical(np.arange(len(usable)), distances, with_face)]
    while len(chosen) < count:
        nearest = distances[:, chosen].min(axis=1)
        farthest = int((nearest * np.where(with_face, config.face_bonus, 1.0)).argmax())
        if nearest[farthest] < config.least_change:
            break
        chosen.append(farthest)
    stands_for = distances[:, chosen].argmin(axis=1)
    typical = (_most_typical(np.flatnonzero(stands_for == group), distances, with_face) for group in range(len(chosen)))
    return sorted(usable[place] for place in typical)


def _most_typical(members: NDArray[np.int64], distances: NDArray[np.float64], with_face: NDArray[np.bool_]) -> int:
    """The member nearest to all others, one with a face where there is one."""
    candidates = members[with_face[members]] if with_face[members].any() else members
    return int(candidates[distances[np.ix_(candidates, members)].sum(axis=1).argmin()])


def _distances(looks: Sequence[Look], face_weight: float) -> NDArray[np.float64]:
    """[N, N]: how much of the picture changes, 0 to 1, and `face_weight` times how much of the face where both show one."""
    pictures = np.stack([look.picture for look in looks])
    found = np.array([np.abs(pictures - picture).mean(axis=(1, 2, 3)) for picture in pictures], dtype=np.float64)
    for place, look in enumerate(looks):
        for other in range(place):
            change = face_weight * _face_change(look.face, looks[other].face)
            found[place, other] += change
            found[other, place] += change
    return found


def _face_change(one: NDArray[np.uint8] | None, other: NDArray[np.uint8] | None) -> float:
    """0 for the same face, wherever it lies in its box and however bright, up to 1 for one that has nothing in common."""
    if one is None or other is None:
        return 0.0
    cv2 = _cv2()
    inside = slice(_SEARCH, -_SEARCH)
    matches = [
        float(cv2.matchTemplate(whole, part[inside, inside], cv2.TM_CCOEFF_NORMED).max())
        for whole, part in ((one, other), (other, one))
    ]
    return 1 - min(1.0, max(0.0, sum(matches) / 2))


@functools.cache
def _cv2() -> Any:
    import cv2

    cv2.setNumThreads(1)  # threads of its own do not survive the fork of a worker process
    return cv2


@functools.cache
def _face_detector() -> Any:
    """Frontal faces, by the cascade that OpenCV ships."""
    return _cv2().CascadeClassifier(_cascade())


def _cascade() -> str:
    return str(_cv2().data.haarcascades) + "haarcascade_frontalface_default.xml"
