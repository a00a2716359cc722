"""The stages of a recipe in the order in which they run, and the policies that they train. A new stage is one line here."""

from __future__ import annotations

from enum import StrEnum

STAGES = {
    "train_epitome": "fires_exp.pipeline.stages.epitome:EpitomeStage",
    "synthesize": "fires_exp.pipeline.stages.thoughts:ThoughtsStage",
    "sft": "fires_exp.pipeline.stages.sft:SftStage",
    "train_baseline": "fires_exp.pipeline.stages.trained_baseline:TrainedBaselineStage",
    "grpo": "fires_exp.pipeline.stages.grpo:GrpoStage",
    "evaluate": "fires_exp.pipeline.stages.evaluation:EvaluationStage",
}
"""Name in `recipe.stages` → "module:class" of the stage; the module is imported when a run needs it."""


class PolicyName(StrEnum):
    """What answers the instances of a split."""

    zero_shot = "zero_shot"
    sft = "sft"
    grpo = "grpo"
    baseline = "baseline"
    trained_baseline = "trained_baseline"


TRAINED_BY = {
    PolicyName.sft: "sft",
    PolicyName.grpo: "grpo",
    PolicyName.trained_baseline: "train_baseline",
}
"""Policy → the stage that trains it; the other policies need no training."""
