"""Predictions to metrics."""

from __future__ import annotations

from typing import Any

from fires_exp.metrics.responses import MetricRow, response_metrics
from fires_exp.stages.artefact import Artefact
from fires_exp.stages.predict import read_predictions
from fires_exp.thinking.tags import ParsedCompletion


def evaluate(predictions: Artefact) -> list[MetricRow]:
    """The table's row of a policy."""
    rows: list[dict[str, Any]] = read_predictions(predictions.folder)
    completions = [
        ParsedCompletion(thought=row["thought"], response=row["response"], well_formed=row["well_formed"]) for row in rows
    ]
    return response_metrics(completions, [row["reference_response"] for row in rows])
