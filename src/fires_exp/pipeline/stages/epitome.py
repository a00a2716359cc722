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
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from fires_exp.config.scoring import EpitomeConfig
from fires_exp.data.readers.epitome import SupportPair, pairs_hash, read_support_pairs, split_pairs
from fires_exp.data.records import Split
from fires_exp.errors import ConfigError
from fires_exp.metrics.classification import LevelTable, level_table, token_f1
from fires_exp.pipeline.planner import Planner
from fires_exp.pipeline.preflight.sizes import Sizes
from fires_exp.pipeline.preflight.stage_estimate import StageEstimate
from fires_exp.pipeline.stage import Stage
from fires_exp.policy.sampling import stream_seed
from fires_exp.report.epitome_plots import draw_calibration, draw_confusion
from fires_exp.report.tables import skill_table
from fires_exp.scores.encoder import load_encoder
from fires_exp.scores.epitome.levels import MECHANISMS
from fires_exp.scores.epitome.model import Mechanism, Trunk, new_mechanism
from fires_exp.scores.epitome.scorer import EpitomeScorer, ScorerFacts, load_scorer, save_scorer, scorer_version, seal_scorer
from fires_exp.scores.epitome.texts import TextReader
from fires_exp.storage.artifacts import Artifact
from fires_exp.storage.files import write_atomically
from fires_exp.training.checkpoints import clear_checkpoints
from fires_exp.training.epitome import MechanismModule, level_weights, predict_pairs
from fires_exp.training.epitome_data import IGNORED, EncodedPairs, encode_texts, length_batches
from fires_exp.training.fit import METRICS, TrainingLoop
from fires_exp.training.step_loader import StepLoader

log = logging.getLogger("fires_exp.pipeline")

TEST_TABLE = "test.json"
CONFUSION = "confusion.png"
CALIBRATION = "calibration.png"
RESULT = "result.json"
BEST = "best.safetensors"


@dataclass(frozen=True, kw_only=True, eq=False)
class EpitomeStage(Stage):
    """The scorers of the three mechanisms. `print_report` prints their test table."""

    name: ClassVar[str] = "epitome"
    memory_settings: ClassVar[tuple[str, ...]] = ("epitome.batch_size", "epitome.max_tokens")

    config: EpitomeConfig
    pairs: tuple[SupportPair, ...]
    loop: TrainingLoop
    cache: Path
    device: torch.device
    seed: int
    progress: bool
    print_report: bool

    @classmethod
    def plan(cls, planner: Planner) -> None:
        """`recipe.stages: [train_epitome]`"""
        planner.add(cls.of(planner))

    @classmethod
    def of(cls, planner: Planner) -> EpitomeStage:
        """The stage as the configuration describes it."""
        config = planner.config.epitome
        return cls(
            artifacts=planner.artifacts,
            config=config,
            pairs=read_support_pairs(None if config.data is None else Path(config.data).expanduser()),
            loop=planner.auxiliary_loop,
            cache=planner.cache,
            device=planner.device,
            seed=planner.config.seed,
            progress=planner.config.trainer.progress,
            print_report="train_epitome" in planner.config.recipe.stages,
        )

    def key_inputs(self) -> dict[str, Any]:
        settings = asdict(self.config)
        del settings["data"]
        return {
            "seed": self.seed,
            "accelerator": self.device.type,
            "epitome": settings,
            "sample": self.config.data is None,
            "pairs": pairs_hash(self.pairs),
        }

    def publish(self, artifact: Artifact, run_folder: Path) -> None:
        """Where the recipe trains scorers, the test table and its plots; they are printed and named for later runs."""
        if self.print_report:
            for name in (TEST_TABLE, CONFUSION, CALIBRATION):
                shutil.copyfile(artifact.folder / name, run_folder / f"epitome_{name}")
            print(skill_table(json.loads((artifact.folder / TEST_TABLE).read_text())))
            log.info("reward.support_skill.scorer=%s", artifact.folder)

    def estimate(self, sizes: Sizes) -> StageEstimate:
        return StageEstimate()

    def build(self, folder: Path) -> None:
        config, seed, pairs = self.config, self.seed, self.pairs
        split = split_pairs(pairs, val_fraction=config.val_fraction, test_fraction=config.test_fraction, seed=seed)
        log.info(
            "epitome: %s pairs for train / val / test, no post on two sides", " / ".join(str(len(split[name])) for name in split)
        )
        tokenizer, encoder = load_encoder(config.encoder, self.cache)
        depth = len(encoder.encoder.layer)
        if config.frozen_layers is not None and config.frozen_layers > depth:
            raise ConfigError(
                f"epitome.frozen_layers={config.frozen_layers}: {config.encoder.name} has {depth} layers; write fewer"
            )
        trunk = Trunk(encoder, config.frozen_layers).to(self.device)
        encoded = self._encode(trunk, TextReader(tokenizer, config.max_tokens), int(tokenizer.pad_token_id), split)
        mechanisms, results = [], []
        for index, name in enumerate(MECHANISMS):
            tried = [self._train(encoder, encoded, folder, index, loss, int(tokenizer.pad_token_id)) for loss in config.losses]
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
        self._test(facts, encoded["test"], mechanisms, results, int(tokenizer.pad_token_id), folder)
        _keep_curves(folder, config.losses)
        seal_scorer(folder)

    def _encode(
        self, trunk: Trunk, reader: TextReader, pad_id: int, split: dict[Split, tuple[SupportPair, ...]]
    ) -> dict[Split, EncodedPairs]:
        """Posts through their frozen encoder and responses through the frozen part of theirs, once for all that is trained."""
        count = sum(len(pairs) for pairs in split.values())
        encoded: dict[Split, EncodedPairs] = {}
        with tqdm(total=count, desc="reading pairs", unit="pair", disable=not self.progress) as bar:
            for name, pairs in split.items():
                seekers, responses = reader([pair.seeker for pair in pairs]), reader([pair.response for pair in pairs])
                states = encode_texts(trunk.seeker, seekers, pad_id, self.device)
                frozen = encode_texts(trunk.response, responses, pad_id, self.device)
                encoded[name] = EncodedPairs(pairs=pairs, seekers=states, responses=frozen, tokens=responses)
                bar.update(len(pairs))
        return encoded

    def _train(
        self,
        encoder: Any,
        encoded: dict[Split, EncodedPairs],
        folder: Path,
        index: int,
        loss: str,
        pad_id: int,
    ) -> dict[str, Any]:
        """Train one mechanism with one loss, or go on with it; what it reached on val. A finished one is not trained again."""
        config, name = self.config, MECHANISMS[index]
        home = folder / "tried" / f"{name}-{loss}"
        home.mkdir(parents=True, exist_ok=True)
        if (home / RESULT).is_file():
            result: dict[str, Any] = json.loads((home / RESULT).read_text())
            return result
        train = encoded["train"].labeled(index)
        seed = stream_seed(self.seed, "epitome", name)
        torch.manual_seed(seed)
        mechanism = new_mechanism(encoder, config.frozen_layers, dropout=config.dropout, encoder_dropout=config.encoder_dropout)
        plan = length_batches(
            [len(pair.response) for pair in train], batch_size=config.batch_size, epochs=config.epochs, seed=seed
        )
        module = MechanismModule(
            mechanism,
            config,
            weights=level_weights([pair.level for pair in train], loss),
            val=encoded["val"].labeled(index),
            steps_per_epoch=len(plan) // config.epochs,
            seed=seed,
            pad_id=pad_id,
        )
        self.loop.take_steps(
            module,
            StepLoader(plan, lambda index: train[index], prefetch=0),
            home,
            stage=f"{name}-{loss}",
            checkpoint_every_steps=len(plan) // config.epochs,
        )
        save_file(module.best, home / BEST)
        result = {"loss": loss, "epoch": module.best_epoch, "val_macro_f1": module.best_f1}
        write_atomically(home / RESULT, json.dumps(result) + "\n")
        clear_checkpoints(home)
        return result

    def _test(
        self,
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
        for index, (name, mechanism) in enumerate(zip(MECHANISMS, mechanisms, strict=True)):
            pairs = test.labeled(index)
            logits: dict[int, Tensor] = {}
            bits: dict[int, Tensor] = {}

            def see(pair: int, levels_3: Tensor, rationales_T2: Tensor, logits: Any = logits, bits: Any = bits) -> None:
                logits[pair], bits[pair] = levels_3, rationales_T2.argmax(dim=-1)

            predict_pairs(mechanism.to(self.device), pairs, pad_id, self.device, see)
            tables[name] = level_table([pair.level for pair in pairs], torch.stack([logits[pair] for pair in range(len(pairs))]))
            carried = [pair for pair in range(len(pairs)) if pairs[pair].level > 0]
            best, tried = results[index]
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


@dataclass(frozen=True, kw_only=True)
class SupportScorer:
    """The scorer of support skills that a run uses: the one of a folder, or the one that `stage` trains."""

    path: Path | None
    stage: EpitomeStage | None
    device: torch.device

    @property
    def version(self) -> str | None:
        """Identifies a folder's scorer; None where the stage's key does."""
        return None if self.path is None else scorer_version(self.path)

    def load(self) -> EpitomeScorer:
        """The scorer, loaded once in a process."""
        folder = self.path or (self.stage and self.stage.folder)
        assert folder is not None
        return _load(folder, self.device)


def plan_scorer(planner: Planner) -> SupportScorer:
    """The scorer that `reward.support_skill.scorer` names, else one that is trained before everything else. Raises
    `BackboneError` where the folder holds no scorer, or one whose files were changed."""
    configured = planner.config.reward.support_skill.scorer
    if configured is None:
        return SupportScorer(path=None, stage=planner.add(EpitomeStage.of(planner), first=True), device=planner.device)
    path = Path(configured).expanduser()
    scorer_version(path)
    return SupportScorer(path=path, stage=None, device=planner.device)


@lru_cache(maxsize=1)
def _load(folder: Path, device: torch.device) -> EpitomeScorer:
    scorer = load_scorer(folder, device)
    log.info("support skills are read by the %s", scorer.name)
    return scorer


def _keep_curves(folder: Path, losses: Sequence[str]) -> None:
    """One metrics.jsonl of all that was tried; the weights that were not chosen go."""
    with (folder / METRICS).open("w", encoding="utf-8") as file:
        for name in MECHANISMS:
            for loss in losses:
                for line in (folder / "tried" / f"{name}-{loss}" / METRICS).read_text(encoding="utf-8").splitlines():
                    file.write(json.dumps({"mechanism": name, "loss": loss, **json.loads(line)}) + "\n")
    shutil.rmtree(folder / "tried")
