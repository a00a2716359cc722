"""Models in the build cache: built once, refused if changed, and the same wherever they are built."""

import hashlib
import shutil

import pytest
from safetensors.torch import load_file

from fires_exp.errors import BackboneError
from fires_exp.policy.tiny_models import tiny_backbone, tiny_encoder, tiny_seq2seq


@pytest.mark.parametrize("build", [tiny_backbone, tiny_encoder, tiny_seq2seq])
def test_a_model_that_is_built_twice_is_the_same(tmp_path, build):
    hashes = []
    for cache in (tmp_path / "first", tmp_path / "second"):
        build(cache)
        files = sorted(path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock")
        assert any(path.name == "tokenizer.json" for path in files)
        hashes.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files})
    assert hashes[0] == hashes[1]


def test_a_model_is_built_once_and_a_changed_file_is_refused(tmp_path):
    folder = tiny_backbone(tmp_path)
    weights = folder / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert tiny_backbone(tmp_path) == folder
    assert weights.stat().st_mtime_ns == before
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(BackboneError, match=r"model\.safetensors"):
        tiny_backbone(tmp_path)
    shutil.rmtree(folder)
    assert load_file(tiny_backbone(tmp_path) / "model.safetensors").keys()
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name], "no temporary folder is left"
