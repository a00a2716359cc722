"""Files that are written atomically, read by complete lines, and hashed."""

from __future__ import annotations

import errno
import hashlib
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def sha256_of_file(path: Path) -> str:
    """64 hex digits. The file is read in pieces, so that its size does not matter."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of `path`, at which the block writes a file or a folder.

    When the block ends, the temporary path replaces `path`; a reader sees the old content or the new one, never a part of it.
    After an exception in the block `path` is as before and the temporary path is deleted. The name is unique to the call, so
    that several processes, also on several hosts, may write the same `path`: of files the last one stays; of folders the one
    that another process has put there in the meantime.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
        if temporary.is_dir():
            _replace_folder(temporary, path)
        else:
            temporary.replace(path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with suppress(OSError):  # the error of the block says more
                temporary.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Write a text in UTF-8; a reader sees the old content or the new one, never a part of it."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def complete_lines(path: Path) -> list[str]:
    """The lines that end with a line break, without it. An incomplete last line, which a kill or a full disk leaves, is dropped.

    Empty where there is no file.
    """
    content = path.read_bytes() if path.is_file() else b""
    return content.rpartition(b"\n")[0].decode("utf-8").split("\n") if b"\n" in content else []


def _replace_folder(temporary: Path, path: Path) -> None:
    """A rename replaces no folder that has files in it, so that the old one is deleted first."""
    shutil.rmtree(path, ignore_errors=True)
    try:
        temporary.rename(path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
