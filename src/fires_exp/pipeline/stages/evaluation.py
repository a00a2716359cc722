"""Predictions to the run's table. It is computed in every run: which metrics are available depends on the machine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from fires_exp.config.root import Config
from fires_exp.metrics import instance_scores
from fires_exp.metrics.measures import ScoredResponse
from fires_exp.metrics.responses import response_metrics
from fires_exp.metrics.rows import MetricsTable
from fires_exp.metrics.thoughts import aspect_shares
from fires_exp.pipeline.planner import Planner
from fires_exp.pipeline.stage import Stage, Summary
from fires_exp.pipeline.stages.epitome import SupportScorer, plan_scorer
from fires_exp.pipeline.stages.grpo import GrpoStage
from fires_exp.pipeline.stages.predictions import read_predictions
from fires_exp.pipeline.stages.thoughts import BANK, ThoughtsStage
from fires_exp.policy.factory import PolicyFactory
from fires_exp.report.tables import evaluation_text
from fires_exp.storage.files import write_atomically
from fires_exp.thinking.bank import read_bank
from fires_exp.training.loggers.scores import log_scores


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation(Summary):
    """The table of the policies whose predictions these are. `facts` are written beside it; `thoughts` give the teacher's aspect
    shares. `config` is for the metrics and for the loggers, which record all of it."""

    name: ClassVar[str] = "evaluate"

    predictions: Mapping[str, Stage]
    scorer: SupportScorer | None
    thoughts: ThoughtsStage | None
    facts: Mapping[str, Any]
    factory: PolicyFactory
    config: Config

    @classmethod
    def plan(cls, planner: Planner) -> None:
        """The predictions of every policy are planned first."""
        config = planner.config
        predictions = {policy.value: planner.predictions(policy) for policy in config.recipe.policies}
        facts: dict[str, Any] = {
            "name": config.name,
            "dataset": planner.test_dataset.name,
            "split": config.predict.split,
            "instances": len(planner.test),
            "backbone": config.trained_model,
            "reward": config.reward.name,
            "scorer": None,  # its name is known when it is loaded
            "judge": config.reward.judge.model if config.reward.judge_weight > 0 else None,
        }
        grpo = planner.find(GrpoStage)
        measured = "diff_epitome" in config.metrics.include
        planner.add(
            cls(
                predictions=predictions,
                scorer=plan_scorer(planner) if measured else grpo.scorer if grpo else None,
                thoughts=planner.find(ThoughtsStage),
                facts=facts,
                factory=planner.factory,
                config=config,
            )
        )

    def run(self, run_folder: Path) -> None:
        """Write metrics.json and instance_scores/, log the scores, print the table."""
        rows = {policy: read_predictions(stage.folder) for policy, stage in self.predictions.items()}
        table = response_metrics(
            {policy: _responses(policy_rows) for policy, policy_rows in rows.items()},
            self.config.metrics,
            seed=self.config.seed,
            cache=self.factory.cache,
            device=self.factory.device,
            scorer=self.scorer.load() if self.scorer else None,
            progress=self.config.trainer.progress,
        )
        folder = run_folder / instance_scores.FOLDER
        folder.mkdir(exist_ok=True)
        for policy, policy_rows in rows.items():
            text = instance_scores.instance_scores_text([row["id"] for row in policy_rows], table.measures[policy])
            write_atomically(folder / f"{policy}.jsonl", text)
        facts = self._facts(table)
        write_atomically(run_folder / "metrics.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
        log_scores(self.config, run_folder, table)
        print(evaluation_text(table.as_json()))

    def _facts(self, table: MetricsTable) -> dict[str, Any]:
        facts = {**self.facts, "scorer": self.scorer.load().name if self.scorer else None, **table.as_json()}
        for stage in self.predictions.values():
            facts |= stage.table_facts()
        if self.thoughts is not None:
            bank = [banked.thought for banked in read_bank(self.thoughts.folder / BANK).values()]
            facts["teacher"] = self.thoughts.teacher.name
            facts["teacher_aspect_shares"] = {aspect.value: shares for aspect, shares in aspect_shares(bank).items()}
        return facts


def _responses(rows: Sequence[Mapping[str, Any]]) -> list[ScoredResponse]:
    return [
        ScoredResponse(
            response=row["response"],
            reference=row["reference_response"],
            context=row["context"],
            thought=row["thought"],
            well_formed=row["well_formed"],
        )
        for row in rows
    ]
