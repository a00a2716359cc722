"""Scorers of support skills as a stage: labeled pairs in, a folder that `reward.support_skill.scorer` can name out.

For each mechanism one model is trained with each loss; the loss and the epoch with the best macro-F1 on val are kept. The test
split is looked at once, when everything is chosen.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from fires_exp.config.schema import Config
from fires_exp.data.readers.epitome import SupportPair, pairs_hash, read_support_pairs, split_pairs
from fires_exp.data.records import Split
from fires_exp.errors import ConfigError
from fires_exp.metrics.classification import LevelTable, level_table, token_f1
from fires_exp.pipeline.workspace import Workspace
from fires_exp.policy.sampling import stream_seed
from fires_exp.report.epitome_plots import draw_calibration, draw_confusion
from fires_exp.report.tables import skill_table
from fires_exp.scores.encoder import load_encoder
from fires_exp.scores.epitome.levels import MECHANISMS
from fires_exp.scores.epitome.model import Mechanism, Trunk, new_mechanism
from fires_exp.scores.epitome.scorer import EpitomeScorer, ScorerFacts, load_scorer, save_scorer, seal_scorer
from fires_exp.scores.epitome.texts import TextReader
from fires_exp.storage.artifacts import Artifact, write_atomically
from fires_exp.storage.code_fingerprint import code_fingerprint
from fires_exp.training.checkpoints import clear_checkpoints
from fires_exp.training.epitome import MechanismModule, level_weights, read_pairs
from fires_exp.training.epitome_data import IGNORED, EncodedPairs, length_batches, read_states
from fires_exp.training.fit import METRICS, take_steps
from fires_exp.training.step_loader import StepLoader

log = logging.getLogger("fires_exp.pipeline")

TEST_TABLE = "test.json"
CONFUSION = "confusion.png"
CALIBRATION = "calibration.png"
RESULT = "result.json"
BEST = "best.safetensors"


def make_scorer(work: Workspace) -> Artifact:
    """The three scorers, trained as `epitome` says."""
    config = work.config.epitome
    pairs = read_support_pairs(None if config.data is None else Path(config.data).expanduser())
    settings = asdict(config)
    del settings["data"]
    depends_on = {
        "seed": work.config.seed,
        "accelerator": work.device.type,
        "epitome": settings,
        "sample": config.data is None,
        "pairs": pairs_hash(pairs),
        "code": code_fingerprint("pipeline.stages.epitome"),
    }

    def build(folder: Path) -> None:
        _build(work, pairs, folder)

    return work.make("epitome", depends_on, build, together=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedScorer:
    """A scorer, and what identifies it in the key of a stage that asks it."""

    scorer: EpitomeScorer
    identity: str


def needs_scorer(config: Config) -> bool:
    """Whether a run reads support skills, for its reward or for its table."""
    rewarded = "grpo" in config.recipe.stages and config.reward.support_skill_weight > 0
    measured = "evaluate" in config.recipe.stages and "diff_epitome" in config.metrics.include
    return rewarded or measured


def support_scorer(work: Workspace) -> NamedScorer:
    """The scorer that the configuration names, else the one that it trains."""
    folder = work.config.reward.support_skill.scorer
    if folder is not None:
        scorer = load_scorer(Path(folder).expanduser(), work.device)
        named = NamedScorer(scorer=scorer, identity=scorer.version)
    else:
        artifact = make_scorer(work)
        named = NamedScorer(scorer=load_scorer(artifact.folder, work.device), identity=artifact.key)
    log.info("support skills are read by the %s", named.scorer.name)
    return named


def skill_report(folder: Path) -> str:
    """A scorer's test table as text."""
    return skill_table(json.loads((folder / TEST_TABLE).read_text()))


def _build(work: Workspace, pairs: tuple[SupportPair, ...], folder: Path) -> None:
    config, seed = work.config.epitome, work.config.seed
    split = split_pairs(pairs, val_fraction=config.val_fraction, test_fraction=config.test_fraction, seed=seed)
    log.info(
        "epitome: %s pairs for train / val / test, no post on two sides", " / ".join(str(len(split[name])) for name in split)
    )
    tokenizer, encoder = load_encoder(config.encoder, work.cache)
    depth = len(encoder.encoder.layer)
    if config.frozen_layers is not None and config.frozen_layers > depth:
        raise ConfigError(f"epitome.frozen_layers={config.frozen_layers}: {config.encoder.name} has {depth} layers; write fewer")
    trunk = Trunk(encoder, config.frozen_layers).to(work.device)
    encoded = _encode(work, trunk, TextReader(tokenizer, config.max_tokens), int(tokenizer.pad_token_id), split)
    mechanisms, results = [], []
    for place, name in enumerate(MECHANISMS):
        tried = [_train(work, encoder, encoded, folder, place, loss, int(tokenizer.pad_token_id)) for loss in config.losses]
        best = max(tried, key=lambda result: result["val_macro_f1"])
        log.info("epitome: %s: %s", name, ", ".join(f"{result['loss']} {result['val_macro_f1']:.3f}" for result in tried))
        mechanism = new_mechanism(encoder, config.frozen_layers, dropout=config.dropout, encoder_dropout=0.0)
        mechanism.load_state_dict(load_file(folder / "tried" / f"{name}-{best['loss']}" / BEST))
        mechanisms.append(mechanism)
        results.append((best, tried))
    facts = ScorerFacts(
        name=f"{'sample scorer' if config.data is None else 'EPITOME scorer'} ({config.encoder.name})",
        encoder=config.encoder.name,
        frozen_layers=config.frozen_layers,
        dropout=config.dropout,
        max_tokens=config.max_tokens,
        data=pairs_hash(pairs),
        split=pairs_hash([pair for name in split for pair in split[name]]),
        seed=seed,
    )
    save_scorer(folder, facts, trunk, mechanisms, encoder, tokenizer)
    _test(work, facts, encoded["test"], mechanisms, results, int(tokenizer.pad_token_id), folder)
    _keep_curves(folder, config.losses)
    seal_scorer(folder)


def _encode(
    work: Workspace, trunk: Trunk, reader: TextReader, pad_id: int, split: dict[Split, tuple[SupportPair, ...]]
) -> dict[Split, EncodedPairs]:
    """Posts through their frozen encoder and responses through the frozen part of theirs, once for all that is trained."""
    count = sum(len(pairs) for pairs in split.values())
    encoded: dict[Split, EncodedPairs] = {}
    with tqdm(total=count, desc="reading pairs", unit="pair", disable=not work.config.trainer.progress) as bar:
        for name, pairs in split.items():
            seekers, responses = reader([pair.seeker for pair in pairs]), reader([pair.response for pair in pairs])
            states = read_states(trunk.seeker, seekers, pad_id, work.device)
            frozen = read_states(trunk.response, responses, pad_id, work.device)
            encoded[name] = EncodedPairs(pairs=pairs, seekers=states, responses=frozen, tokens=responses)
            bar.update(len(pairs))
    return encoded


def _train(
    work: Workspace,
    encoder: Any,
    encoded: dict[Split, EncodedPairs],
    folder: Path,
    place: int,
    loss: str,
    pad_id: int,
) -> dict[str, Any]:
    """Train one mechanism with one loss, or go on with it; what it reached on val. A finished one is not trained again."""
    config, name = work.config.epitome, MECHANISMS[place]
    home = folder / "tried" / f"{name}-{loss}"
    home.mkdir(parents=True, exist_ok=True)
    if (home / RESULT).is_file():
        result: dict[str, Any] = json.loads((home / RESULT).read_text())
        return result
    train = encoded["train"].labeled(place)
    seed = stream_seed(work.config.seed, "epitome", name)
    torch.manual_seed(seed)
    mechanism = new_mechanism(encoder, config.frozen_layers, dropout=config.dropout, encoder_dropout=config.encoder_dropout)
    plan = length_batches([len(pair.response) for pair in train], batch_size=config.batch_size, epochs=config.epochs, seed=seed)
    module = MechanismModule(
        mechanism,
        config,
        weights=level_weights([pair.level for pair in train], loss),
        val=encoded["val"].labeled(place),
        steps_an_epoch=len(plan) // config.epochs,
        seed=seed,
        pad_id=pad_id,
    )
    take_steps(
        module,
        StepLoader(plan, lambda index: train[index], ahead=0),
        home,
        work.config,
        stage=f"{name}-{loss}",
        run_folder=work.run_folder,
        checkpoint_every_steps=len(plan) // config.epochs,
    )
    save_file(module.best, home / BEST)
    result = {"loss": loss, "epoch": module.best_epoch, "val_macro_f1": module.best_f1}
    write_atomically(home / RESULT, json.dumps(result) + "\n")
    clear_checkpoints(home)
    return result


def _test(
    work: Workspace,
    facts: ScorerFacts,
    test: EncodedPairs,
    mechanisms: Sequence[Mechanism],
    results: Sequence[tuple[dict[str, Any], list[dict[str, Any]]]],
    pad_id: int,
    folder: Path,
) -> None:
    """The scorer's own test table and its pictures."""
    tables: dict[str, LevelTable] = {}
    rows: dict[str, Any] = {}
    for place, (name, mechanism) in enumerate(zip(MECHANISMS, mechanisms, strict=True)):
        pairs = test.labeled(place)
        logits: dict[int, Tensor] = {}
        bits: dict[int, Tensor] = {}

        def see(pair: int, levels_3: Tensor, rationales_T2: Tensor, logits: Any = logits, bits: Any = bits) -> None:
            logits[pair], bits[pair] = levels_3, rationales_T2.argmax(dim=-1)

        read_pairs(mechanism.to(work.device), pairs, pad_id, work.device, see)
        tables[name] = level_table([pair.level for pair in pairs], torch.stack([logits[pair] for pair in range(len(pairs))]))
        carried = [pair for pair in range(len(pairs)) if pairs[pair].level > 0]
        best, tried = results[place]
        rows[name] = asdict(tables[name]) | {
            "rationale_token_f1": token_f1(
                torch.cat([pairs[pair].rationale for pair in carried]), torch.cat([bits[pair] for pair in carried]), IGNORED
            )
            if carried
            else None,
            "chosen": best,
            "tried": tried,
        }
    table = {"scorer": facts.name, "seed": facts.seed, "test_pairs": len(test.pairs), "mechanisms": rows}
    (folder / TEST_TABLE).write_text(json.dumps(table, indent=2) + "\n")
    draw_confusion(tables, folder / CONFUSION)
    draw_calibration(tables, folder / CALIBRATION)


def _keep_curves(folder: Path, losses: Sequence[str]) -> None:
    """One metrics.jsonl of all that was tried; the weights that were not chosen go."""
    with (folder / METRICS).open("w", encoding="utf-8") as file:
        for name in MECHANISMS:
            for loss in losses:
                for line in (folder / "tried" / f"{name}-{loss}" / METRICS).read_text(encoding="utf-8").splitlines():
                    file.write(json.dumps({"mechanism": name, "loss": loss, **json.loads(line)}) + "\n")
    shutil.rmtree(folder / "tried")


def copy_pictures(scorer: Artifact, run_folder: Path) -> None:
    """The test table and its pictures into the run folder."""
    for name in (TEST_TABLE, CONFUSION, CALIBRATION):
        shutil.copyfile(scorer.folder / name, run_folder / f"epitome_{name}")
