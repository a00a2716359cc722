"""BERTScore (Zhang et al., 2020): greedy matching of two texts' token states by cosine, through the bert-score library."""

from __future__ import annotations

import importlib.metadata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from bert_score.utils import bert_cos_score_idf
from tokenizers.pre_tokenizers import ByteLevel
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from fires_exp.config.scoring import SimilarityConfig
from fires_exp.errors import BackboneError, ScoreError
from fires_exp.scores.encoder import load_encoder


class BertScore:
    """F1 without idf weights and without baseline rescaling. `name` is BERTScore's only for the encoder that the name stands for,
    layer 17 of roberta-large. Raises `ScoreError` where the encoder can't be had."""

    def __init__(self, config: SimilarityConfig, cache: Path, device: torch.device, *, progress: bool) -> None:
        self._batch_size = config.batch_size
        self._progress = progress
        try:
            self._tokenizer, self._model = load_encoder(config.encoder, cache)
        except BackboneError as error:
            raise ScoreError(f"{error}: metrics=offline") from None
        sizes = self._model.config
        if config.layer > sizes.num_hidden_layers:
            raise ScoreError(
                f"metrics.similarity.layer={config.layer}: {config.encoder.name} has {sizes.num_hidden_layers} layers; write one"
            )
        _prepare(self._tokenizer, sizes.max_position_embeddings - 2)
        self._model.encoder.layer = self._model.encoder.layer[: config.layer]
        self._model.to(device)
        shape = (sizes.model_type, sizes.hidden_size, sizes.num_hidden_layers, config.layer)
        is_bertscore = config.encoder.name == "roberta-large" and shape == ("roberta", 1024, 24, 17)
        self.name = "BERTScore F1" if is_bertscore else f"{config.encoder.name} score F1 (not BERTScore)"
        revision = f" {config.encoder.revision[:8]}" if config.encoder.revision else ""
        library = importlib.metadata.version("bert-score")
        self.version = f"bert-score {library}, {config.encoder.name}{revision} layer {config.layer}, not rescaled"

    def f1(self, references: Sequence[str], responses: Sequence[str]) -> list[float]:
        """One score a pair, at most 1; 0 where a text is empty."""
        pairs = list(zip(references, responses, strict=True))
        scores = [0.0] * len(pairs)
        whole = [place for place, pair in enumerate(pairs) if all(text.strip() for text in pair)]
        whole.sort(key=lambda place: -sum(map(len, pairs[place])))  # texts of a batch are padded to its longest
        bar = tqdm(total=len(whole), desc="comparing texts", unit="response", disable=not self._progress)
        weights: defaultdict[int, float] = defaultdict(lambda: 1.0)
        weights |= {self._tokenizer.sep_token_id: 0.0, self._tokenizer.cls_token_id: 0.0}
        with bar:
            for start in range(0, len(whole), self._batch_size):
                places = whole[start : start + self._batch_size]
                first, second = ([pairs[place][side] for place in places] for side in (0, 1))
                found = bert_cos_score_idf(self._model, first, second, self._tokenizer, weights, device=self._model.device)
                for place, score in zip(places, found[:, 2].tolist(), strict=True):
                    scores[place] = score
                bar.update(len(places))
        return scores


def _prepare(tokenizer: PreTrainedTokenizerBase, longest: int) -> None:
    """What the library asks of a tokenizer on every call, and which transformers 5 no longer hears: a space before the first
    word, for byte-level ones, and a limit."""
    pre_tokenizer = tokenizer.backend_tokenizer.pre_tokenizer
    if isinstance(pre_tokenizer, ByteLevel):
        pre_tokenizer.add_prefix_space = True
    tokenizer.model_max_length = min(tokenizer.model_max_length, longest)
