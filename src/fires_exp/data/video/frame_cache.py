"""A cache of frames on disk: one folder per key, with JPEGs and a list of their hashes.

The cache may be deleted, and several processes may share it.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from fires_exp.errors import DataError
from fires_exp.storage.files import atomic_path

_JPEG_QUALITY = 95
_HASHES_FILE = "frames.json"


class FrameCache:
    """Returns frames as they decode from JPEG, also right after writing them: the first run has the pixels of all later ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, key: str) -> list[Image.Image] | None:
        """The frames under a key; None if the entry is missing or damaged."""
        entry = self._entry(key)
        try:
            hashes = json.loads((entry / _HASHES_FILE).read_bytes())
            jpegs = [(entry / _file_name(index)).read_bytes() for index in range(len(hashes))]
            if [_sha256(jpeg) for jpeg in jpegs] != hashes:
                return None
            return [_decode(jpeg) for jpeg in jpegs]
        except (OSError, ValueError, TypeError):
            return None

    def write(self, key: str, frames: Sequence[Image.Image]) -> list[Image.Image]:
        """Write or replace the entry of a key, and return what `read` will. Raises `DataError` if the disk cannot be written."""
        jpegs = [_encode(frame) for frame in frames]
        entry = self._entry(key)
        try:
            entry.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(entry) as temporary:
                temporary.mkdir()
                for index, jpeg in enumerate(jpegs):
                    (temporary / _file_name(index)).write_bytes(jpeg)
                (temporary / _HASHES_FILE).write_text(json.dumps([_sha256(jpeg) for jpeg in jpegs]))
        except OSError as error:
            raise DataError(
                f"cannot cache frames in {self._folder} ({error.strerror}); free disk space, or set paths.cache to another folder"
            ) from None
        return [_decode(jpeg) for jpeg in jpegs]

    def _entry(self, key: str) -> Path:
        return self._folder / key[:2] / key


def _file_name(index: int) -> str:
    return f"{index:03d}.jpg"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _encode(frame: Image.Image) -> bytes:
    buffer = io.BytesIO()
    frame.save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def _decode(jpeg: bytes) -> Image.Image:
    return Image.open(io.BytesIO(jpeg)).convert("RGB")
