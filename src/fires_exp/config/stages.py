"""The stages that a recipe may list, and the stages that predict with each policy: a line each.

A value is "module:Class". The module is imported when a run is planned, so that reading a configuration needs no other library.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

# in the order in which they run
STAGES: Mapping[str, str] = {
    "train_epitome": "fires_exp.pipeline.stages.epitome:EpitomeStage",
    "synthesize": "fires_exp.pipeline.stages.thoughts:ThoughtsStage",
    "sft": "fires_exp.pipeline.stages.sft:SftStage",
    "train_baseline": "fires_exp.pipeline.stages.trained_baseline:TrainedBaselineStage",
    "grpo": "fires_exp.pipeline.stages.grpo:GrpoStage",
    "evaluate": "fires_exp.pipeline.stages.evaluation:Evaluation",
}


class PolicyName(StrEnum):
    """A source of predictions for the test split."""

    zero_shot = "zero_shot"
    sft = "sft"
    grpo = "grpo"
    baseline = "baseline"
    trained_baseline = "trained_baseline"


PREDICTIONS: Mapping[PolicyName, str] = {
    PolicyName.zero_shot: "fires_exp.pipeline.stages.predictions:PredictionsStage",
    PolicyName.sft: "fires_exp.pipeline.stages.predictions:PredictionsStage",
    PolicyName.grpo: "fires_exp.pipeline.stages.predictions:PredictionsStage",
    PolicyName.baseline: "fires_exp.pipeline.stages.baseline:BaselineStage",
    PolicyName.trained_baseline: "fires_exp.pipeline.stages.trained_baseline:TrainedBaselinePredictions",
}

# the stage of a recipe that trains a policy; the other policies need no training
TRAINED_BY: Mapping[PolicyName, str] = {
    PolicyName.sft: "sft",
    PolicyName.grpo: "grpo",
    PolicyName.trained_baseline: "train_baseline",
}

# stages of a recipe that use the thoughts of `teacher`, and those that use `recipe.policies`
USES_THOUGHTS = frozenset({"synthesize", "sft"})
USES_POLICIES = frozenset({"evaluate"})
