"""Trained scorers of support skills: a folder on disk, and what reads levels with it.

scorer.json            name, encoder, settings, what it was trained on, and the sha256 of every other file
encoder/               the encoder's configuration and tokenizer
trunk.safetensors      what the three mechanisms share
<mechanism>.safetensors
test.json              its own test table; confusion.svg, calibration.svg
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
from fires_exp.storage.build_cache import file_sha256

FORMAT = 1
AGAIN = "train the scorer again (recipe=train_epitome)"
SCORER = "scorer.json"
BATCH_SIZE = 64
SEEKERS_KEPT = 4096
LEVELS_KEPT = 262_144

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScorerFacts:
    """What a scorer is, apart from its weights. `data` and `split` are hashes of the pairs and of how they were split."""

    name: str
    encoder: str
    frozen_layers: int | None
    dropout: float
    max_tokens: int
    data: str
    split: str
    seed: int


class EpitomeScorer:
    """Reads levels with three trained mechanisms. What it has read it remembers: a reference is scored once."""

    def __init__(self, facts: ScorerFacts, trunk: Trunk, mechanisms: Sequence[Mechanism], tokenizer: Any, version: str) -> None:
        self.facts = facts
        self.trunk = trunk.eval()
        self.mechanisms = [mechanism.eval().requires_grad_(False) for mechanism in mechanisms]
        self.reader = TextReader(tokenizer, facts.max_tokens)
        self.pad_id = int(tokenizer.pad_token_id)
        self._version = version
        self._seekers: OrderedDict[str, Tensor] = OrderedDict()
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
        read = [self._levels[pair] for pair in pairs]
        _forget(self._levels, LEVELS_KEPT)
        return read

    @torch.no_grad()
    def logits(self, pairs: Sequence[ContextAndResponse]) -> list[Tensor]:
        """Level logits [3 mechanisms, 3 levels] of each (context, response), on the CPU; nothing is remembered but posts."""
        seekers = self._seeker_states([context for context, _ in pairs])
        responses = self.reader([response for _, response in pairs])
        found: list[Tensor] = [torch.empty(0)] * len(pairs)
        for places in _by_length(responses):
            ids_BT, mask_BT = self._pad([responses[place].ids for place in places])
            seeker_BSH, seeker_mask_BS = pad([seekers[pairs[place][0]] for place in places], 0)
            seeker_mask_BS = seeker_mask_BS.to(self.device)
            shared = self.trunk.response(ids_BT, mask_BT)
            logits_BM3 = torch.stack(
                [mechanism(shared, mask_BT, seeker_BSH, seeker_mask_BS)[0] for mechanism in self.mechanisms], dim=1
            )
            for place, logits_M3 in zip(places, logits_BM3.float().cpu(), strict=True):
                found[place] = logits_M3
        return found

    def _seeker_states(self, contexts: Sequence[str]) -> dict[str, Tensor]:
        """States [S, H] of each context; a context that was read lately is not read again."""
        states = {context: self._seekers[context] for context in contexts if context in self._seekers}
        new = [context for context in dict.fromkeys(contexts) if context not in states]
        tokens = self.reader(new)
        for places in _by_length(tokens):
            ids_BS, mask_BS = self._pad([tokens[place].ids for place in places])
            for place, row in zip(places, self.trunk.seeker(ids_BS, mask_BS), strict=True):
                states[new[place]] = self._seekers[new[place]] = row[: len(tokens[place].ids)].clone()
        _forget(self._seekers, SEEKERS_KEPT)
        return states

    def _pad(self, rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        ids, mask = pad(rows, self.pad_id)
        return ids.to(self.device), mask.to(self.device)


def _by_length(tokens: Sequence[Tokens]) -> list[list[int]]:
    """Places of texts in batches of similar length, so that little is padded."""
    order = sorted(range(len(tokens)), key=lambda place: len(tokens[place].ids))
    return [order[start : start + BATCH_SIZE] for start in range(0, len(order), BATCH_SIZE)]


def _forget(memory: OrderedDict[Any, Value], keep: int) -> None:
    while len(memory) > keep:
        memory.popitem(last=False)


def save_scorer(
    folder: Path, facts: ScorerFacts, trunk: Trunk, mechanisms: Sequence[Mechanism], encoder: Any, tokenizer: Any
) -> None:
    """Write the weights and what is needed to load them; `seal_scorer` closes the folder once its test table lies there too."""
    encoder.config.save_pretrained(folder / "encoder")
    tokenizer.save_pretrained(folder / "encoder")
    _save(trunk, folder / "trunk.safetensors")
    for name, mechanism in zip(MECHANISMS, mechanisms, strict=True):
        _save(mechanism, folder / f"{name}.safetensors")
    (folder / SCORER).write_text(json.dumps({"format": FORMAT, **asdict(facts)}, indent=2) + "\n")


def seal_scorer(folder: Path) -> None:
    """Add to `scorer.json` what every other file's sha256 is."""
    facts = json.loads((folder / SCORER).read_text())
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SCORER and not path.name.startswith("."))
    facts["files"] = {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}
    (folder / SCORER).write_text(json.dumps(facts, indent=2) + "\n")


def load_scorer(folder: Path, device: torch.device) -> EpitomeScorer:
    """Raises `BackboneError` that names the file which is missing, changed, cut off or of another version."""
    facts = _read_facts(folder)
    files: dict[str, str] = facts.pop("files")
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise BackboneError(f"{path} is missing: the scorer is not whole; {AGAIN}")
        if file_sha256(path) != expected:
            raise BackboneError(f"{path} is not what was saved there: changed or cut off; {AGAIN}")
    known = ScorerFacts(**facts)
    config = AutoConfig.from_pretrained(folder / "encoder")
    encoder = AutoModel.from_config(config)
    trunk = Trunk(encoder, known.frozen_layers)
    _load(trunk, folder / "trunk.safetensors")
    mechanisms = []
    for name in MECHANISMS:
        mechanism = new_mechanism(encoder, known.frozen_layers, dropout=known.dropout, encoder_dropout=0.0)
        _load(mechanism, folder / f"{name}.safetensors")
        mechanisms.append(mechanism)
    tokenizer = AutoTokenizer.from_pretrained(folder / "encoder")
    return EpitomeScorer(known, trunk, mechanisms, tokenizer, version=scorer_version(folder)).to(device)


def scorer_version(folder: Path) -> str:
    """What tells a scorer from every other: `scorer.json` names the hashes of its files. Raises `BackboneError` for no scorer."""
    _read_facts(folder)
    return file_sha256(folder / SCORER)[:8]


def _read_facts(folder: Path) -> dict[str, Any]:
    path = folder / SCORER
    remedy = "write reward.support_skill.scorer=<folder that recipe=train_epitome made>, or null to train one"
    if not path.is_file():
        raise BackboneError(f"{folder} is no scorer: it has no {SCORER}; {remedy}")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        version = facts.pop("format")
    except (ValueError, AttributeError, KeyError):
        raise BackboneError(f"{path} cannot be read as a scorer's description; {remedy}") from None
    if version != FORMAT:
        raise BackboneError(f"{path} has format {version}, and this version reads format {FORMAT}; {AGAIN}")
    expected = {"files", *ScorerFacts.__dataclass_fields__}
    if set(facts) != expected:
        wrong = ", ".join(sorted(set(facts) ^ expected))
        raise BackboneError(f"{path} lacks or has too much: {wrong}; {remedy}")
    return dict(facts)


def _save(module: nn.Module, path: Path) -> None:
    save_file({name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}, path)


def _load(module: nn.Module, path: Path) -> None:
    try:
        module.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise BackboneError(f"{path} does not hold this scorer's weights ({str(error).splitlines()[0]}); {AGAIN}") from None
