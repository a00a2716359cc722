"""The stages that a recipe may list, in the order in which they run, and who predicts with each policy: a line each.

The classes are imported when a run is planned, so that reading a configuration needs none of their libraries.
"""

from __future__ import annotations

from collections.abc import Mapping

STAGES: Mapping[str, str] = {
    "train_epitome": "fires_exp.pipeline.stages.epitome:EpitomeStage",
    "synthesize": "fires_exp.pipeline.stages.thoughts:ThoughtsStage",
    "sft": "fires_exp.pipeline.stages.sft:SftStage",
    "train_baseline": "fires_exp.pipeline.stages.trained_baseline:TrainedBaselineStage",
    "grpo": "fires_exp.pipeline.stages.grpo:GrpoStage",
    "evaluate": "fires_exp.pipeline.stages.evaluation:Evaluation",
}

PREDICTIONS: Mapping[str, str] = {
    "zero_shot": "fires_exp.pipeline.stages.predictions:PredictionsStage",
    "sft": "fires_exp.pipeline.stages.predictions:PredictionsStage",
    "grpo": "fires_exp.pipeline.stages.predictions:PredictionsStage",
    "baseline": "fires_exp.pipeline.stages.baseline:BaselineStage",
    "trained_baseline": "fires_exp.pipeline.stages.trained_baseline:TrainedBaselinePredictions",
}
