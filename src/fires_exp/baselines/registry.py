"""The baselines by the values of `trained_baseline.name`."""

from __future__ import annotations

from collections.abc import Mapping

from fires_exp.baselines.bbmhr import Bbmhr
from fires_exp.baselines.blenderbot_joint import BlenderBotJoint
from fires_exp.baselines.interface import TrainedBaseline
from fires_exp.baselines.smes import Smes
from fires_exp.config.baselines import TrainedBaselineConfig

BASELINES: Mapping[str, TrainedBaseline] = {baseline.name: baseline for baseline in (Smes(), BlenderBotJoint(), Bbmhr())}


def configured_baseline(config: TrainedBaselineConfig) -> TrainedBaseline | None:
    """The baseline that a run trains in place of FIRES; None where `trained_baseline.name` is none."""
    return BASELINES.get(config.name)
