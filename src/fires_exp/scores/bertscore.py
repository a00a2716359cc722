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
    """F1 without idf weights and without baseline rescaling. `name` is "BERTScore F1" only for layer 17 of roberta-large, the
    encoder that the name stands for. Raises `ScoreError` if the encoder cannot be loaded."""

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
                f"metrics.similarity.layer={config.layer}: {config.encoder.name} has {sizes.num_hidden_layers} layers; "
                f"write at most {sizes.num_hidden_layers}"
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
        """One score per pair, at most 1; 0 if a text is empty."""
        pairs = list(zip(references, responses, strict=True))
        scores = [0.0] * len(pairs)
        indices = [index for index, pair in enumerate(pairs) if all(text.strip() for text in pair)]
        indices.sort(key=lambda index: -sum(map(len, pairs[index])))  # texts of a batch are padded to its longest
        bar = tqdm(total=len(indices), desc="comparing texts", unit="response", disable=not self._progress)
        weights: defaultdict[int, float] = defaultdict(lambda: 1.0)
        weights |= {self._tokenizer.sep_token_id: 0.0, self._tokenizer.cls_token_id: 0.0}
        with bar:
            for start in range(0, len(indices), self._batch_size):
                batch = indices[start : start + self._batch_size]
                first, second = ([pairs[index][side] for index in batch] for side in (0, 1))
                precision_recall_f1 = bert_cos_score_idf(
                    self._model, first, second, self._tokenizer, weights, device=self._model.device
                )
                for index, score in zip(batch, precision_recall_f1[:, 2].tolist(), strict=True):
                    scores[index] = score
                bar.update(len(batch))
        return scores


def _prepare(tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
    """Two settings that the library passes on every call, but transformers 5 ignores: a space before the first word, for
    byte-level tokenizers, and a maximum length."""
    pre_tokenizer = tokenizer.backend_tokenizer.pre_tokenizer
    if isinstance(pre_tokenizer, ByteLevel):
        pre_tokenizer.add_prefix_space = True
    tokenizer.model_max_length = min(tokenizer.model_max_length, max_length)
