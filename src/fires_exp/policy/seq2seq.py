"""Sequence-to-sequence models: BlenderBot, its small sister, and others of transformers' class for them.

`tiny` is a random BlenderBot for tests, with a byte-level BPE learned from the sample corpus.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    BlenderbotConfig,
    BlenderbotForConditionalGeneration,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

from fires_exp.config.baselines import Seq2SeqConfig
from fires_exp.config.model import SamplingConfig
from fires_exp.data.readers.sample import sample_texts
from fires_exp.errors import BackboneError
from fires_exp.storage.build_cache import build_once

TINY_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What an encoder reads: ids [T] with the closing token; `cut` is whether its beginning did not fit."""

    ids: Tensor
    cut: bool


class Seq2Seq(nn.Module):
    """A model with its tokenizer. All its weights train."""

    def __init__(self, model: Any, tokenizer: Any, config: Seq2SeqConfig) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.config = config

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    def source(self, lines: Sequence[str]) -> Source:
        """Lines, each closed by the end token; where they are too long, their beginning is cut off."""
        ids = [id for line in lines for id in (*self._ids(line), self.tokenizer.eos_token_id)]
        kept = ids[-self.config.max_source_tokens :]
        return Source(ids=torch.tensor(kept), cut=len(kept) < len(ids))

    def target_ids(self, text: str) -> Tensor:
        """A text to learn as ids [T], closed by the end token unless it is cut off."""
        return torch.tensor([*self._ids(text), self.tokenizer.eos_token_id][: self.config.max_target_tokens])

    def logprob_sum(self, sources: Sequence[Source], targets: Sequence[Tensor]) -> Tensor:
        """The sum of log p(target token | source, earlier target tokens) over all tokens of all pairs."""
        labels_BT = pad_sequence(list(targets), batch_first=True, padding_value=-100).to(self.device)
        logits_BTV = self.model(**self._padded(sources), labels=labels_BT, use_cache=False).logits
        return -nn.functional.cross_entropy(logits_BTV.float().flatten(0, 1), labels_BT.flatten(), reduction="sum")

    @torch.no_grad()
    def write(self, sources: Sequence[Source], decoding: SamplingConfig, seed: int) -> list[tuple[str, str]]:
        """A text for each source, with its finish reason, stop or length. Above temperature 0 a batch has one random stream."""
        greedy = decoding.temperature == 0
        chosen = {} if greedy else {"temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0}
        limit = min(decoding.max_new_tokens, self.config.max_target_tokens)
        self.eval()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            written_BT = self.model.generate(
                **self._padded(sources), do_sample=not greedy, num_beams=1, max_new_tokens=limit, **chosen
            )
        return [self._told(ids_T.tolist()[1:]) for ids_T in written_BT.cpu()]  # the first is the start token

    def save(self, folder: Path) -> None:
        """Weights as safetensors and the tokenizer, as transformers reads them."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def _padded(self, sources: Sequence[Source]) -> dict[str, Tensor]:
        ids = [source.ids for source in sources]
        mask = pad_sequence([torch.ones_like(one) for one in ids], batch_first=True, padding_value=0)
        padded = pad_sequence(ids, batch_first=True, padding_value=self.tokenizer.pad_token_id)
        return {"input_ids": padded.to(self.device), "attention_mask": mask.to(self.device)}

    def _told(self, ids: list[int]) -> tuple[str, str]:
        eos = self.tokenizer.eos_token_id
        stopped = eos in ids
        text = ids[: ids.index(eos)] if stopped else ids
        silent = {self.tokenizer.pad_token_id, self.tokenizer.bos_token_id}
        # a baseline's marks are special tokens too, and are kept
        decoded: str = self.tokenizer.decode([id for id in text if id not in silent], skip_special_tokens=False)
        return decoded.strip(), "stop" if stopped else "length"


def check_seq2seq(config: Seq2SeqConfig, cache: Path) -> None:
    """Raises `BackboneError` where the model can't be had or reads fewer tokens than it is to, before anything is made."""
    _tokenizer(config, _source(config, cache))


def build_seq2seq(config: Seq2SeqConfig, cache: Path, marks: Sequence[str], device: torch.device, seed: int) -> Seq2Seq:
    """The model before training, in float32. `marks` become one token each, with new rows drawn from `seed`."""
    source = _source(config, cache)
    tokenizer = _tokenizer(config, source)
    model = _model(config, source)
    tokenizer.add_tokens(list(marks), special_tokens=True)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model.resize_token_embeddings(len(tokenizer))
    return _ready(model, tokenizer, config, device)


def load_seq2seq(folder: Path, config: Seq2SeqConfig, device: torch.device) -> Seq2Seq:
    """What `Seq2Seq.save` left."""
    return _ready(_model(config, str(folder)), AutoTokenizer.from_pretrained(folder), config, device)


def _ready(model: Any, tokenizer: Any, config: Seq2SeqConfig, device: torch.device) -> Seq2Seq:
    # beams, shortest lengths and forced tokens, which chat models bring along, would decide what is compared
    model.generation_config = GenerationConfig(
        decoder_start_token_id=model.config.decoder_start_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        suppress_tokens=[id for id in (tokenizer.pad_token_id, tokenizer.bos_token_id) if id is not None],
    )
    return Seq2Seq(model.to(device), tokenizer, config)


def _source(config: Seq2SeqConfig, cache: Path) -> str:
    if config.source == "tiny":
        return str(build_once(cache, f"tiny-seq2seq-v{TINY_VERSION}", _build_tiny))
    assert config.path is not None
    if config.path.startswith((".", "/", "~")):
        folder = Path(config.path).expanduser()
        if not (folder / "config.json").is_file():
            raise BackboneError(
                f"seq2seq.path={config.path}: no config.json there; write a folder saved by transformers, or a hub id"
            )
        return str(folder)
    return config.path


def _tokenizer(config: Seq2SeqConfig, source: str) -> Any:
    try:
        facts = AutoConfig.from_pretrained(source, revision=config.revision)
        tokenizer = AutoTokenizer.from_pretrained(source, revision=config.revision)
    except (OSError, ValueError) as error:
        raise _unreachable(config, error) from None
    if not facts.is_encoder_decoder or None in (tokenizer.eos_token_id, tokenizer.pad_token_id):
        raise BackboneError(
            f"seq2seq {config.name}: {source} is a {facts.model_type}, which is no sequence-to-sequence model with an end and a "
            "padding token; write seq2seq.path=<a BlenderBot>"
        )
    positions = getattr(facts, "max_position_embeddings", None)
    for key in ("max_source_tokens", "max_target_tokens"):
        if positions is not None and getattr(config, key) > positions:
            raise BackboneError(
                f"seq2seq.{key}={getattr(config, key)}: {config.name} has {positions} positions; write at most {positions}"
            )
    return tokenizer


def _model(config: Seq2SeqConfig, source: str) -> Any:
    try:
        return AutoModelForSeq2SeqLM.from_pretrained(source, revision=config.revision, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise _unreachable(config, error) from None


def _unreachable(config: Seq2SeqConfig, error: Exception) -> BackboneError:
    first_line = str(error).strip().splitlines()[0]
    offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
    return BackboneError(
        f"seq2seq {config.name}: {config.path} can't be loaded{offline}: {first_line} Write seq2seq.path=<local folder>, or "
        "trained_baseline.model=backbone, which trains the baseline on the backbone"
    )


def _build_tiny(folder: Path) -> dict[str, Any]:
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words.train_from_iterator(sample_texts(), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    sizes = {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in _TINY_SIZES.items()}
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
        torch.manual_seed(0)
        model = BlenderbotForConditionalGeneration(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return {"source": "random"}


_TINY_SIZES = {"layers": 2, "attention_heads": 2, "ffn_dim": 64}
