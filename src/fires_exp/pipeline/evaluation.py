"""Predictions to metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fires_exp.metrics import instance_scores
from fires_exp.metrics.measures import ScoredResponse
from fires_exp.metrics.responses import response_metrics
from fires_exp.metrics.rows import Evaluation
from fires_exp.pipeline.stages.predictions import read_predictions
from fires_exp.pipeline.workspace import Workspace
from fires_exp.scores.epitome.levels import SupportSkillScorer
from fires_exp.storage.artifacts import Artifact
from fires_exp.storage.files import write_atomically


def evaluate(work: Workspace, predictions: Mapping[str, Artifact], scorer: SupportSkillScorer | None) -> Evaluation:
    """The table of the policies whose predictions these are."""
    return evaluate_answers(
        work, {policy: _answers(read_predictions(artifact.folder)) for policy, artifact in predictions.items()}, scorer
    )


def keep_instance_scores(run_folder: Path, predictions: Mapping[str, Artifact], table: Evaluation) -> None:
    """What each instance scores, a file a policy, so that a report can compare this run's policies with other runs'."""
    folder = run_folder / instance_scores.FOLDER
    folder.mkdir(exist_ok=True)
    for policy, artifact in predictions.items():
        ids = [row["id"] for row in read_predictions(artifact.folder)]
        write_atomically(folder / f"{policy}.jsonl", instance_scores.instance_scores_text(ids, table.measures[policy]))


def evaluate_answers(
    work: Workspace, systems: Mapping[str, Sequence[ScoredResponse]], scorer: SupportSkillScorer | None
) -> Evaluation:
    """The table of systems whose answers these are."""
    config = work.config
    return response_metrics(
        systems,
        config.metrics,
        seed=config.seed,
        cache=work.cache,
        device=work.device,
        scorer=scorer,
        progress=config.trainer.progress,
    )


def _answers(rows: Sequence[Mapping[str, Any]]) -> list[ScoredResponse]:
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
