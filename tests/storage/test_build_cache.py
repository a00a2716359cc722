"""Models that are built here for tests are the same wherever and whenever they are built."""

import hashlib

import pytest
import torch

from fires_exp.config.baselines import Seq2SeqConfig
from fires_exp.config.scoring import EncoderConfig
from fires_exp.policy.seq2seq import build_seq2seq
from fires_exp.policy.tiny_models import tiny_backbone
from fires_exp.scores.encoder import encoder_source


def tiny_encoder(cache):
    encoder_source(EncoderConfig(name="tiny", source="tiny", path=None, revision=None), cache)


def tiny_seq2seq(cache):
    config = Seq2SeqConfig(name="tiny", source="tiny", path=None, revision=None, max_source_tokens=64, max_target_tokens=32)
    build_seq2seq(config, cache, [], torch.device("cpu"), seed=0)


@pytest.mark.parametrize("build", [tiny_backbone, tiny_encoder, tiny_seq2seq])
def test_a_model_that_is_built_twice_is_the_same(tmp_path, build):
    found = []
    for place in ("once", "again"):
        build(tmp_path / place)
        files = sorted(path for path in (tmp_path / place).rglob("*") if path.is_file() and path.suffix != ".lock")
        assert any(path.name == "tokenizer.json" for path in files)
        found.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files})
    assert found[0] == found[1]
