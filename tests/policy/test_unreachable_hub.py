"""A hub that is down: one line that says what to write instead."""

import os
import subprocess
import sys

# the library waits half a minute between its tries; here it does not
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


def lines(tmp_path, **environment):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        env={**os.environ, "HF_SERVICE": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_a_hub_that_refuses_is_one_line_with_the_remedy(tmp_path):
    backbone, encoder = lines(tmp_path, HF_HUB_OFFLINE="0")
    assert backbone.startswith("backbone b: someone/model can't be loaded: ")
    assert backbone.endswith("Write backbone.path=<local folder>, or choose backbone=smollm2_vl, which needs no hub")
    assert encoder.startswith("encoder e: someone/encoder can't be loaded: ")
    assert encoder.endswith("Write its path=<local folder>, or choose the encoder minilm, which needs no hub")


def test_an_offline_run_says_that_it_is_one(tmp_path):
    assert all("can't be loaded (HF_HUB_OFFLINE is set): " in line for line in lines(tmp_path, HF_HUB_OFFLINE="1"))
