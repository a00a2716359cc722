"""Exhausted memory or disk as one line: which setting to lower, or where to make room."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fires_exp.config.root import Config
from fires_exp.errors import ExhaustedError, FiresError
from fires_exp.pipeline.preflight.suggestions import lower_values
from fires_exp.pipeline.stage import Stage

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# torch and safetensors write files in code of their own and report a full disk in the message alone
_DISK_FULL_MESSAGE = re.compile(r"os error (?:27|28|122)\b|No space left|inline_container.*(?:unexpected pos|write failed)")
_OUT_OF_MEMORY_MESSAGE = re.compile(r"DefaultCPUAllocator|CUDA error: out of memory|unable to allocate", re.IGNORECASE)
_REQUESTED = re.compile(r"tried to allocate (\d[\d.]* \w+)", re.IGNORECASE)
_FRAME_SETTINGS = ("frames.max_frames", "frames.max_pixels")


@contextmanager
def resource_errors(config: Config, stage: Stage | None) -> Iterator[None]:
    """Raises `ExhaustedError` in place of a library's error for exhausted memory or a full disk. `stage` is None outside of all
    stages."""
    try:
        yield
    except FiresError:
        raise
    except Exception as error:
        where = f" in stage {stage.name}" if stage else ""
        if _is_disk_full(error):
            file = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
            raise ExhaustedError(
                f"the disk is full{where}{file}; finished stages are kept: make room, or write another paths.artifacts and "
                "paths.cache, and start the same command again"
            ) from None
        if _is_out_of_memory(error):
            request = _REQUESTED.search(str(error))
            requested = f", with a request for {request[1]} more" if request else ""
            raise ExhaustedError(f"out of memory{where}{requested}; {what_to_lower(config, stage)}") from None
        raise


def what_to_lower(config: Config, stage: Stage | None) -> str:
    """The settings that lower a stage's memory, with the next smaller value of each."""
    keys = stage.memory_settings if stage else ()
    if config.frames.name != "none" and (stage is None or stage.reads_frames):
        keys = (*keys, *_FRAME_SETTINGS)
    smaller = [f"{key}={str(values[0]).lower()} (now {str(now).lower()})" for key, now, values in lower_values(config, keys)]
    return f"write {', or '.join(smaller)}, and start again" if smaller else "free memory, or choose a smaller backbone"


def _is_disk_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in _DISK_FULL
    return _DISK_FULL_MESSAGE.search(str(error)) is not None


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or _OUT_OF_MEMORY_MESSAGE.search(str(error)) is not None
