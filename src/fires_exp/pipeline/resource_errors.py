"""Memory or disk that is used up, told in one line: what to lower, or where to make room."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from fires_exp.config.root import Config
from fires_exp.errors import ExhaustedError, FiresError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# torch and safetensors write from code of their own and tell of a disk in words alone
_NO_ROOM_IN_WORDS = re.compile(r"os error (?:27|28|122)\b|No space left|inline_container.*(?:unexpected pos|write failed)")
_NO_MEMORY_IN_WORDS = re.compile(r"DefaultCPUAllocator|CUDA error: out of memory|unable to allocate", re.IGNORECASE)
_ASKED_FOR = re.compile(r"tried to allocate (\d[\d.]* \w+)", re.IGNORECASE)


@contextmanager
def exhaustion_told(config: Config, stage: str) -> Iterator[None]:
    """Raises `ExhaustedError` in place of what a library says when it gets no memory or no room on the disk. `stage` is empty
    outside of all stages."""
    try:
        yield
    except FiresError:
        raise
    except Exception as error:
        where = f" in stage {stage}" if stage else ""
        if _is_disk_full(error):
            file = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
            raise ExhaustedError(
                f"the disk is full{where}{file}; what was finished is kept: make room, or write another paths.artifacts and "
                "paths.cache, and start the same command again"
            ) from None
        if _is_out_of_memory(error):
            asked = _ASKED_FOR.search(str(error))
            more = f", asking for {asked[1]} more" if asked else ""
            raise ExhaustedError(f"out of memory{where}{more}; {what_to_lower(config, stage)}") from None
        raise


def what_to_lower(config: Config, stage: str) -> str:
    """Keys with a lower value each, those first that leave a stage's result as it is."""
    halves = {
        "sft": {"sft.micro_batch_size": config.sft.micro_batch_size},
        "grpo": {"grpo.micro_batch_size": config.grpo.micro_batch_size, "grpo.batch_size": config.grpo.batch_size},
        "predictions": {"predict.batch_size": config.predict.batch_size},
        "epitome": {"epitome.batch_size": config.epitome.batch_size, "epitome.max_tokens": config.epitome.max_tokens},
    }.get(stage, {})
    if stage != "epitome" and config.frames.name != "none":
        halves |= {"frames.max_frames": config.frames.max_frames, "frames.max_pixels": config.frames.max_pixels}
    lower = [f"{key}={value // 2} (now {value})" for key, value in halves.items() if value > 1]
    recomputes = {"sft": config.sft.gradient_checkpointing, "grpo": config.grpo.gradient_checkpointing}
    if not recomputes.get(stage, True):
        lower.insert(1, f"{stage}.gradient_checkpointing=true")
    return f"write {', or '.join(lower)}, and start again" if lower else "free memory, or choose a smaller backbone"


def _is_disk_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in _NO_ROOM
    return _NO_ROOM_IN_WORDS.search(str(error)) is not None


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or _NO_MEMORY_IN_WORDS.search(str(error)) is not None
