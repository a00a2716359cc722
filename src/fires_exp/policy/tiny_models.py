"""Tiny random models for tests, built once into the cache: a backbone, a sequence-to-sequence model and a text encoder.

Each has a tokenizer learned from the sample corpus, so no network is needed, and is the same wherever it is built.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    BlenderbotConfig,
    BlenderbotForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from fires_exp.data.readers.sample import sample_texts
from fires_exp.policy.qwen_vl import CHAT_TEMPLATE, VISION_TOKENS, new_qwen_vl, save_qwen_vl
from fires_exp.storage.build_cache import build_once

BACKBONE_VERSION = 1
SEQ2SEQ_VERSION = 1
ENCODER_VERSION = 2
WEIGHT_SEED = 0
ENCODER_VOCABULARY = 512
ENCODER_SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def tiny_backbone(cache: Path) -> Path:
    """The folder of a Qwen2.5-VL with a few hundred thousand parameters."""
    corpus_hash = hashlib.sha256("\n".join(_backbone_texts()).encode()).hexdigest()[:8]
    return build_once(cache, f"tiny-{corpus_hash}-v{BACKBONE_VERSION}", _build_backbone)


def tiny_seq2seq(cache: Path) -> Path:
    """The folder of a BlenderBot with two layers on each side."""
    return build_once(cache, f"tiny-seq2seq-v{SEQ2SEQ_VERSION}", _build_seq2seq)


def tiny_encoder(cache: Path) -> Path:
    """The folder of a BERT with two layers."""
    return build_once(cache, f"tiny-encoder-v{ENCODER_VERSION}", _build_encoder)


# --- backbone -------------------------------------------------------------------------------------------------------


def _build_backbone(folder: Path) -> dict[str, Any]:
    special_tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *VISION_TOKENS]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_byte_level_bpe(_backbone_texts(), 1024, special_tokens),
        pad_token="<|endoftext|>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>", *VISION_TOKENS],
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]},
    }
    vision = {"depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64, "fullatt_block_indexes": [1]}
    model = new_qwen_vl(tokenizer, text, vision, tied=False)
    with torch.no_grad():
        # with the usual 0.02 every distribution would be flat, and an adapter could not change that
        model.lm_head.weight.mul_(8)
    save_qwen_vl(model, tokenizer, folder)
    return {"source": "random"}


def _backbone_texts() -> Iterator[str]:
    yield from sample_texts()
    yield from [
        "<think>\nVisual Scene: ",
        "Situation: Unknown",
        "Response Strategy: ",
        "\n</think>\n<response>",
        "</response>",
    ] * 50


# --- sequence-to-sequence -------------------------------------------------------------------------------------------

_SIDE_SIZES = {"layers": 2, "attention_heads": 2, "ffn_dim": 64}


def _build_seq2seq(folder: Path) -> dict[str, Any]:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_byte_level_bpe(sample_texts(), 512, ["<pad>", "<s>", "</s>"]),
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
    )
    sizes = {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in _SIDE_SIZES.items()}
    config = BlenderbotConfig(
        vocab_size=len(tokenizer),
        d_model=32,
        max_position_embeddings=128,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.bos_token_id,
        forced_eos_token_id=None,
        **sizes,
    )
    with torch.random.fork_rng():
        torch.manual_seed(WEIGHT_SEED)
        model = BlenderbotForConditionalGeneration(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"source": "random"}


def _byte_level_bpe(texts: Iterator[str] | Sequence[str], vocabulary: int, special_tokens: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special_tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


# --- encoder --------------------------------------------------------------------------------------------------------


def _build_encoder(folder: Path) -> dict[str, Any]:
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    word_pieces = Tokenizer(models.WordPiece(_encoder_vocabulary(normalizer, splitter), unk_token="[UNK]"))
    word_pieces.normalizer, word_pieces.pre_tokenizer = normalizer, splitter
    word_pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[(token, word_pieces.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=word_pieces,
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
        torch.manual_seed(WEIGHT_SEED)
        model = BertModel(config, add_pooling_layer=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"source": "random"}


def _encoder_vocabulary(normalizer: Any, splitter: Any) -> dict[str, int]:
    """Letters, their continuations and the most frequent words of the sample. The library's own trainer breaks ties at random."""
    texts = map(normalizer.normalize_str, sample_texts())
    counts = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(text))
    letters = sorted({letter for word in counts for letter in word})
    pieces = [*letters, *(f"##{letter}" for letter in letters)]
    frequent = sorted((word for word in counts if len(word) > 1), key=lambda word: (-counts[word], word))
    tokens = [*ENCODER_SPECIAL_TOKENS, *pieces, *frequent][:ENCODER_VOCABULARY]
    return {token: index for index, token in enumerate(tokens)}
