"""Hub ids and local folders, and an unreachable hub: one line with the remedy."""

import os
import subprocess
import sys

import pytest

from fires_exp.errors import BackboneError
from fires_exp.storage.pretrained import is_hub_id, resolve_source

# the library waits half a minute between its attempts; here it does not
PROGRAM = """
import sys, time
from pathlib import Path
import torch
from fires_exp.config.model import BackboneConfig
from fires_exp.config.scoring import EncoderConfig
from fires_exp.errors import BackboneError
from fires_exp.policy.backbone import build_policy
from fires_exp.scores.encoder import load_encoder
time.sleep = lambda seconds: None
backbone = BackboneConfig(name="b", source="hub", path="someone/model", revision="main", dtype="float32", attention="sdpa")
encoder = EncoderConfig(name="e", source="hub", path="someone/encoder", revision=None)
cache = Path(sys.argv[1])
for build in (lambda: build_policy(backbone, cache, torch.device("cpu")), lambda: load_encoder(encoder, cache)):
    try:
        build()
    except BackboneError as error:
        print(error)
"""


def errors_of_a_subprocess(tmp_path, **environment):
    """The error lines of building a backbone and an encoder from a hub that refuses connections."""
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        env={**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return process.stdout.splitlines()


def test_an_unreachable_hub_is_one_line_with_the_remedy(tmp_path):
    backbone, encoder = errors_of_a_subprocess(tmp_path, HF_HUB_OFFLINE="0")
    assert backbone.startswith("backbone b: someone/model can't be loaded: ")
    assert backbone.endswith("Write backbone.path=<local folder>, or choose backbone=smollm2_vl, which needs no hub")
    assert encoder.startswith("encoder e: someone/encoder can't be loaded: ")
    assert encoder.endswith("Write its path=<local folder>, or choose the encoder minilm, which needs no hub")


def test_the_error_of_an_offline_run_mentions_the_offline_switch(tmp_path):
    assert all(
        "can't be loaded (HF_HUB_OFFLINE is set): " in line for line in errors_of_a_subprocess(tmp_path, HF_HUB_OFFLINE="1")
    )


def test_a_path_starts_with_a_dot_a_slash_or_a_tilde_and_anything_else_is_a_hub_id(tmp_path):
    assert is_hub_id("Qwen/Qwen2.5-VL-7B-Instruct")
    assert not any(is_hub_id(source) for source in ("./model", "../model", "/models/a", "~/model", None))
    assert resolve_source("someone/model", "backbone.path") == "someone/model"
    (tmp_path / "config.json").touch()
    assert resolve_source(str(tmp_path), "backbone.path") == str(tmp_path)


def test_a_folder_without_a_model_is_refused_naming_the_key(tmp_path):
    with pytest.raises(BackboneError, match=rf"^encoder\.path={tmp_path}: .*config\.json"):
        resolve_source(str(tmp_path), "encoder.path")
