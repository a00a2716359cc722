"""Trained scorers of support skills: the folder on disk, and reading levels with it.

scorer.json              name, encoder, settings, training data, and the sha256 of every other file
encoder/                 the encoder's configuration and tokenizer
trunk.safetensors        the frozen weights that the three mechanisms share
<mechanism>.safetensors  the trained weights of one mechanism
test.json                the scorer's results on its test split; confusion.svg, calibration.svg
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from fires_exp.errors import BackboneError
from fires_exp.scores.epitome.levels import MECHANISMS, ContextAndResponse, SkillLevels
from fires_exp.scores.epitome.model import Mechanism, Trunk, new_mechanism
from fires_exp.scores.epitome.texts import TextReader, Tokens, pad
from fires_exp.storage.files import sha256_of_file, write_atomically

FORMAT = 1
RETRAIN = "train the scorer again (recipe=train_epitome)"
SCORER_FILE = "scorer.json"
BATCH_SIZE = 64
MAX_CACHED_CONTEXTS = 4096
MAX_CACHED_LEVELS = 262_144

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerFacts:
    """A scorer without its weights. `data` and `split` are hashes of the labeled pairs and of their split."""

    name: str
    encoder: str
    frozen_layers: int | None
    dropout: float
    max_tokens: int
    data: str
    split: str
    seed: int


class EpitomeScorer:
    """Reads levels with three trained mechanisms. Levels and context states are cached, so that a reference is scored once."""

    def __init__(self, facts: ScorerFacts, trunk: Trunk, mechanisms: Sequence[Mechanism], tokenizer: Any, version: str) -> None:
        self.facts = facts
        self.trunk = trunk.eval()
        self.mechanisms = [mechanism.eval().requires_grad_(False) for mechanism in mechanisms]
        self.reader = TextReader(tokenizer, facts.max_tokens)
        self.pad_id = int(tokenizer.pad_token_id)
        self._version = version
        self._context_states: OrderedDict[str, Tensor] = OrderedDict()
        self._levels: OrderedDict[ContextAndResponse, SkillLevels] = OrderedDict()

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def version(self) -> str:
        return self._version

    @property
    def device(self) -> torch.device:
        return next(self.trunk.parameters()).device

    def to(self, device: torch.device) -> EpitomeScorer:
        for module in (self.trunk, *self.mechanisms):
            module.to(device)
        return self

    def levels(self, pairs: Sequence[ContextAndResponse]) -> list[SkillLevels]:
        """The arg-max level of each mechanism for each (context, response), in order."""
        new = [pair for pair in dict.fromkeys(pairs) if pair not in self._levels]
        for pair, logits_M3 in zip(new, self.logits(new), strict=True):
            self._levels[pair] = SkillLevels(*logits_M3.argmax(dim=-1).tolist())
        levels = [self._levels[pair] for pair in pairs]
        _evict_oldest(self._levels, MAX_CACHED_LEVELS)
        return levels

    @torch.no_grad()
    def logits(self, pairs: Sequence[ContextAndResponse]) -> list[Tensor]:
        """Level logits [3 mechanisms, 3 levels] of each (context, response), on the CPU. Only context states are cached."""
        contexts = self._states_of_contexts([context for context, _ in pairs])
        responses = self.reader([response for _, response in pairs])
        logits: list[Tensor] = [torch.empty(0)] * len(pairs)
        for batch in _batches_by_length(responses):
            ids_BT, mask_BT = self._pad([responses[index].ids for index in batch])
            seeker_BUD, seeker_mask_BU = pad([contexts[pairs[index][0]] for index in batch], 0)
            seeker_mask_BU = seeker_mask_BU.to(self.device)
            shared = self.trunk.response(ids_BT, mask_BT)
            logits_BM3 = torch.stack(
                [mechanism(shared, mask_BT, seeker_BUD, seeker_mask_BU)[0] for mechanism in self.mechanisms], dim=1
            )
            for index, logits_M3 in zip(batch, logits_BM3.float().cpu(), strict=True):
                logits[index] = logits_M3
        return logits

    def _states_of_contexts(self, contexts: Sequence[str]) -> dict[str, Tensor]:
        """States [U, D] of each context; those of recent contexts come from the cache."""
        states = {context: self._context_states[context] for context in contexts if context in self._context_states}
        new = [context for context in dict.fromkeys(contexts) if context not in states]
        tokens = self.reader(new)
        for batch in _batches_by_length(tokens):
            ids_BU, mask_BU = self._pad([tokens[index].ids for index in batch])
            for index, states_UD in zip(batch, self.trunk.seeker(ids_BU, mask_BU), strict=True):
                states[new[index]] = self._context_states[new[index]] = states_UD[: len(tokens[index].ids)].clone()
        _evict_oldest(self._context_states, MAX_CACHED_CONTEXTS)
        return states

    def _pad(self, rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        ids, mask = pad(rows, self.pad_id)
        return ids.to(self.device), mask.to(self.device)


def _batches_by_length(tokens: Sequence[Tokens]) -> list[list[int]]:
    """Indices of texts in batches of similar length, so that there is little padding."""
    order = sorted(range(len(tokens)), key=lambda index: len(tokens[index].ids))
    return [order[start : start + BATCH_SIZE] for start in range(0, len(order), BATCH_SIZE)]


def _evict_oldest(cache: OrderedDict[Any, Value], max_size: int) -> None:
    while len(cache) > max_size:
        cache.popitem(last=False)


def save_scorer(
    folder: Path, facts: ScorerFacts, trunk: Trunk, mechanisms: Sequence[Mechanism], encoder: Any, tokenizer: Any
) -> None:
    """Write the weights and the files needed to load them; `seal_scorer` completes the folder, after its test results."""
    encoder.config.save_pretrained(folder / "encoder")
    tokenizer.save_pretrained(folder / "encoder")
    _save_weights(trunk, folder / "trunk.safetensors")
    for name, mechanism in zip(MECHANISMS, mechanisms, strict=True):
        _save_weights(mechanism, folder / f"{name}.safetensors")
    (folder / SCORER_FILE).write_text(json.dumps({"format": FORMAT, **asdict(facts)}, indent=2) + "\n")


def seal_scorer(folder: Path) -> None:
    """Add the sha256 of every other file to `scorer.json`."""
    facts = json.loads((folder / SCORER_FILE).read_text())
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    hashes = {path.relative_to(folder).as_posix(): sha256_of_file(path) for path in files if path.name != SCORER_FILE}
    facts["files"] = hashes
    write_atomically(folder / SCORER_FILE, json.dumps(facts, indent=2) + "\n")


def load_scorer(folder: Path, device: torch.device) -> EpitomeScorer:
    """Raises `BackboneError`, naming the file that is missing, changed, truncated or of another version."""
    facts = _verified_facts(folder)
    scorer_facts = ScorerFacts(**facts)
    config = AutoConfig.from_pretrained(folder / "encoder")
    encoder = AutoModel.from_config(config)
    trunk = Trunk(encoder, scorer_facts.frozen_layers)
    _load_weights(trunk, folder / "trunk.safetensors")
    mechanisms = []
    for name in MECHANISMS:
        mechanism = new_mechanism(encoder, scorer_facts.frozen_layers, dropout=scorer_facts.dropout, encoder_dropout=0.0)
        _load_weights(mechanism, folder / f"{name}.safetensors")
        mechanisms.append(mechanism)
    tokenizer = AutoTokenizer.from_pretrained(folder / "encoder")
    return EpitomeScorer(scorer_facts, trunk, mechanisms, tokenizer, version=scorer_version(folder)).to(device)


def scorer_version(folder: Path) -> str:
    """A short hash of `scorer.json`, which holds the hashes of all other files. Raises `BackboneError` as `load_scorer` does."""
    _verified_facts(folder)
    return sha256_of_file(folder / SCORER_FILE)[:8]


def _verified_facts(folder: Path) -> dict[str, Any]:
    """The facts of a scorer all of whose files are as they were saved."""
    facts = _read_facts(folder)
    files: dict[str, str] = facts.pop("files")
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise BackboneError(f"{path} is missing: the scorer is incomplete; {RETRAIN}")
        if sha256_of_file(path) != expected:
            raise BackboneError(f"{path} was changed or truncated after it was saved; {RETRAIN}")
    return facts


def _read_facts(folder: Path) -> dict[str, Any]:
    path = folder / SCORER_FILE
    remedy = "write reward.support_skill.scorer=<folder that recipe=train_epitome wrote>, or null to train one"
    if not path.is_file():
        raise BackboneError(f"{folder} is not a scorer: it has no {SCORER_FILE}; {remedy}")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        version = facts.pop("format")
    except (ValueError, AttributeError, KeyError):
        raise BackboneError(f"{path} cannot be read as a scorer's description; {remedy}") from None
    if version != FORMAT:
        raise BackboneError(f"{path} has format {version}, and this version reads format {FORMAT}; {RETRAIN}")
    expected = {"files", *ScorerFacts.__dataclass_fields__}
    if set(facts) != expected:
        wrong = ", ".join(sorted(set(facts) ^ expected))
        raise BackboneError(f"{path} has missing or unknown keys: {wrong}; {remedy}")
    return dict(facts)


def _save_weights(module: nn.Module, path: Path) -> None:
    save_file({name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}, path)


def _load_weights(module: nn.Module, path: Path) -> None:
    try:
        module.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise BackboneError(f"{path} does not hold this scorer's weights ({str(error).splitlines()[0]}); {RETRAIN}") from None
