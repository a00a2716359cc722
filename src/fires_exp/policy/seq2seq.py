"""Sequence-to-sequence models of transformers: BlenderBot, BlenderBot-Small and others with the same interface."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig

from fires_exp.config.baselines import Seq2SeqConfig, Seq2SeqSource
from fires_exp.config.model import SamplingConfig
from fires_exp.errors import BackboneError
from fires_exp.policy.tiny_models import tiny_seq2seq
from fires_exp.storage.pretrained import resolve_source, unreachable_model


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderInput:
    """Input of an encoder: ids [T] with the closing token; `truncated` is True if tokens at the beginning did not fit."""

    ids: Tensor
    truncated: bool


class Seq2Seq(nn.Module):
    """A model with its tokenizer. All its weights are trainable."""

    def __init__(self, model: Any, tokenizer: Any, config: Seq2SeqConfig) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.config = config

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.device
        return device

    def encoder_input(self, lines: Sequence[str]) -> EncoderInput:
        """Lines, each closed by the end token; tokens that exceed `max_source_tokens` are dropped from the beginning."""
        ids = [id for line in lines for id in (*self._ids(line), self.tokenizer.eos_token_id)]
        fitting = ids[-self.config.max_source_tokens :]
        return EncoderInput(ids=torch.tensor(fitting), truncated=len(fitting) < len(ids))

    def target_ids(self, text: str) -> Tensor:
        """A target text as ids [T], closed by the end token unless it is truncated to `max_target_tokens`."""
        return torch.tensor([*self._ids(text), self.tokenizer.eos_token_id][: self.config.max_target_tokens])

    def logprob_sum(self, inputs: Sequence[EncoderInput], targets: Sequence[Tensor]) -> Tensor:
        """The sum of log p(target token | input, earlier target tokens) over all tokens of all pairs."""
        labels_BT = pad_sequence(list(targets), batch_first=True, padding_value=-100).to(self.device)
        logits_BTV = self.model(**self._padded(inputs), labels=labels_BT, use_cache=False).logits
        return -nn.functional.cross_entropy(logits_BTV.float().flatten(0, 1), labels_BT.flatten(), reduction="sum")

    @torch.no_grad()
    def generate(self, inputs: Sequence[EncoderInput], decoding: SamplingConfig, seed: int) -> list[tuple[str, str]]:
        """A text for each input with its finish reason, stop or length. Above temperature 0 a batch has one random stream."""
        greedy = decoding.temperature == 0
        sampling = {} if greedy else {"temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0}
        limit = min(decoding.max_new_tokens, self.config.max_target_tokens)
        self.eval()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            generated_BT = self.model.generate(
                **self._padded(inputs), do_sample=not greedy, num_beams=1, max_new_tokens=limit, **sampling
            )
        return [self._text_and_finish_reason(ids_T.tolist()[1:]) for ids_T in generated_BT.cpu()]  # the first is the start token

    def save(self, folder: Path) -> None:
        """Write the weights as safetensors and the tokenizer, as transformers reads them."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def _padded(self, inputs: Sequence[EncoderInput]) -> dict[str, Tensor]:
        ids = [item.ids for item in inputs]
        mask = pad_sequence([torch.ones_like(ids_T) for ids_T in ids], batch_first=True, padding_value=0)
        padded = pad_sequence(ids, batch_first=True, padding_value=self.tokenizer.pad_token_id)
        return {"input_ids": padded.to(self.device), "attention_mask": mask.to(self.device)}

    def _text_and_finish_reason(self, ids: list[int]) -> tuple[str, str]:
        eos = self.tokenizer.eos_token_id
        stopped = eos in ids
        text = ids[: ids.index(eos)] if stopped else ids
        dropped = {self.tokenizer.pad_token_id, self.tokenizer.bos_token_id}
        # a baseline's markers are special tokens too, and stay in the text
        decoded: str = self.tokenizer.decode([id for id in text if id not in dropped], skip_special_tokens=False)
        return decoded.strip(), "stop" if stopped else "length"


def check_seq2seq(config: Seq2SeqConfig, cache: Path) -> None:
    """Raises `BackboneError` if the model cannot be loaded, or has fewer positions than it is configured to read or write."""
    _load_tokenizer(config, _source(config, cache))


def build_seq2seq(config: Seq2SeqConfig, cache: Path, markers: Sequence[str], device: torch.device, seed: int) -> Seq2Seq:
    """The pretrained model, in float32. Each of `markers` becomes one token; new embedding rows are drawn from `seed`."""
    source = _source(config, cache)
    tokenizer = _load_tokenizer(config, source)
    model = _load_model(config, source)
    tokenizer.add_tokens(list(markers), special_tokens=True)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model.resize_token_embeddings(len(tokenizer))
    return _with_plain_generation(model, tokenizer, config, device)


def load_seq2seq(folder: Path, config: Seq2SeqConfig, device: torch.device) -> Seq2Seq:
    """Load what `Seq2Seq.save` wrote."""
    return _with_plain_generation(_load_model(config, str(folder)), AutoTokenizer.from_pretrained(folder), config, device)


def _with_plain_generation(model: Any, tokenizer: Any, config: Seq2SeqConfig, device: torch.device) -> Seq2Seq:
    # chat models ship with beam search, minimum lengths and forced tokens, which would make a comparison unfair
    model.generation_config = GenerationConfig(
        decoder_start_token_id=model.config.decoder_start_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        suppress_tokens=[id for id in (tokenizer.pad_token_id, tokenizer.bos_token_id) if id is not None],
    )
    return Seq2Seq(model.to(device), tokenizer, config)


def _source(config: Seq2SeqConfig, cache: Path) -> str:
    if config.source == Seq2SeqSource.tiny:
        return str(tiny_seq2seq(cache))
    assert config.path is not None
    return resolve_source(config.path, "seq2seq.path")


def _load_tokenizer(config: Seq2SeqConfig, source: str) -> Any:
    try:
        model_config = AutoConfig.from_pretrained(source, revision=config.revision)
        tokenizer = AutoTokenizer.from_pretrained(source, revision=config.revision)
    except (OSError, ValueError) as error:
        raise _unreachable(config, error) from None
    if not model_config.is_encoder_decoder or None in (tokenizer.eos_token_id, tokenizer.pad_token_id):
        raise BackboneError(
            f"seq2seq {config.name}: {source} is a {model_config.model_type}, not a sequence-to-sequence model with an end and a "
            "padding token; write seq2seq.path=<a BlenderBot>"
        )
    positions = getattr(model_config, "max_position_embeddings", None)
    for key in ("max_source_tokens", "max_target_tokens"):
        if positions is not None and getattr(config, key) > positions:
            raise BackboneError(
                f"seq2seq.{key}={getattr(config, key)}: {config.name} has {positions} positions; write at most {positions}"
            )
    return tokenizer


def _load_model(config: Seq2SeqConfig, source: str) -> Any:
    try:
        return AutoModelForSeq2SeqLM.from_pretrained(source, revision=config.revision, dtype=torch.float32)
    except (OSError, ValueError) as error:
        raise _unreachable(config, error) from None


def _unreachable(config: Seq2SeqConfig, error: Exception) -> BackboneError:
    remedy = "Write seq2seq.path=<local folder>, or trained_baseline.model=backbone, which trains the baseline on the backbone"
    return unreachable_model(f"seq2seq {config.name}", config.path, error, remedy)
