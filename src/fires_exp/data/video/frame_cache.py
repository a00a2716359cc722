"""Frames on disk: one folder a key, with its JPEGs and a list of their hashes. Safe to delete, and safe to share."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from fires_exp.errors import DataError

_JPEG_QUALITY = 95
_LIST_FILE = "frames.json"


class FrameCache:
    """Frames go in as pixels and come out as their JPEG decodes, on the first run as on every later one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, key: str) -> list[Image.Image] | None:
        """The frames put under a key; None where there are none or where they are not whole."""
        entry = self._entry(key)
        try:
            listed = json.loads((entry / _LIST_FILE).read_bytes())
            encoded = [(entry / _file_name(index)).read_bytes() for index in range(len(listed))]
            if [_sha256(jpeg) for jpeg in encoded] != listed:
                return None
            return [_decoded(jpeg) for jpeg in encoded]
        except (OSError, ValueError, TypeError):
            return None

    def write(self, key: str, frames: Sequence[Image.Image]) -> list[Image.Image]:
        """Put frames under a key, in place of what is there, and return what `read` will. `DataError` where the disk refuses."""
        encoded = [_encoded(frame) for frame in frames]
        entry = self._entry(key)
        unfinished = entry.with_name(f"{entry.name}.{uuid.uuid4().hex}")
        try:
            unfinished.mkdir(parents=True)
            for index, jpeg in enumerate(encoded):
                (unfinished / _file_name(index)).write_bytes(jpeg)
            (unfinished / _LIST_FILE).write_text(json.dumps([_sha256(jpeg) for jpeg in encoded]))
            shutil.rmtree(entry, ignore_errors=True)
            _rename(unfinished, entry)
        except OSError as error:
            raise DataError(
                f"cannot keep frames in {self._folder} ({error.strerror}); make room, or write another paths.cache"
            ) from None
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return [_decoded(jpeg) for jpeg in encoded]

    def _entry(self, key: str) -> Path:
        return self._folder / key[:2] / key


def _rename(unfinished: Path, entry: Path) -> None:
    """Another process may have written the same entry in the meantime: then its frames are as good as ours."""
    try:
        os.rename(unfinished, entry)
    except OSError:
        if not (entry / _LIST_FILE).exists():
            raise


def _file_name(index: int) -> str:
    return f"{index:03d}.jpg"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _encoded(frame: Image.Image) -> bytes:
    buffer = io.BytesIO()
    frame.save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def _decoded(jpeg: bytes) -> Image.Image:
    return Image.open(io.BytesIO(jpeg)).convert("RGB")
