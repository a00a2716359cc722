"""Models that are built locally, once, into the cache; their weights are verified on every use."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from filelock import FileLock

from fires_exp.errors import BackboneError
from fires_exp.storage.files import atomic_path, sha256_of_file

log = logging.getLogger("fires_exp.policy")

WEIGHTS = "model.safetensors"
RECORD = "build.json"


def build_once(cache: Path, name: str, build: Callable[[Path], dict[str, Any]]) -> Path:
    """The folder `<cache>/backbones/<name>`, built on first use; of several processes one builds and the others wait.

    `build(folder)` writes a model into an empty folder and returns facts for `build.json`. Raises `BackboneError` if the weights
    are not those that were built.
    """
    folder = cache / "backbones" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / RECORD).is_file():
            log.info("building %s in %s (once)", name, folder.parent)
            with atomic_path(folder) as work:
                work.mkdir()
                facts = build(work)
                facts |= {"transformers": transformers.__version__, "torch": torch.__version__}
                facts["weights_sha256"] = sha256_of_file(work / WEIGHTS)
                (work / RECORD).write_text(json.dumps(facts, indent=2) + "\n")
    expected = json.loads((folder / RECORD).read_text())["weights_sha256"]
    if sha256_of_file(folder / WEIGHTS) != expected:
        raise BackboneError(f"{folder / WEIGHTS} was changed after it was built; delete the folder, and it is built again")
    return folder
