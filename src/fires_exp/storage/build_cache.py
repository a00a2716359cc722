"""Models that are built once into the cache and checked whenever they are used."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from filelock import FileLock

from fires_exp.errors import BackboneError

log = logging.getLogger("fires_exp.policy")


def build_once(cache: Path, name: str, build: Callable[[Path], dict[str, Any]]) -> Path:
    """Build into `<cache>/backbones/<name>` if it is not there, and check that the weights are those that were built."""
    folder = cache / "backbones" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "build.json").is_file():
            log.info("building %s in %s (once)", name, folder.parent)
            work = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=folder.parent))
            try:
                facts = build(work)
                facts |= {"transformers": transformers.__version__, "torch": torch.__version__}
                facts["weights_sha256"] = file_sha256(work / "model.safetensors")
                (work / "build.json").write_text(json.dumps(facts, indent=2) + "\n")
                shutil.rmtree(folder, ignore_errors=True)
                work.rename(folder)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    expected = json.loads((folder / "build.json").read_text())["weights_sha256"]
    if file_sha256(folder / "model.safetensors") != expected:
        raise BackboneError(f"{folder / 'model.safetensors'} is not what was built there; delete the folder, it is built again")
    return folder


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
