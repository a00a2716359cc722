"""The baselines by the names that `trained_baseline.name` takes."""

from __future__ import annotations

from collections.abc import Mapping

from fires_exp.baselines.bbmhr import Bbmhr
from fires_exp.baselines.blenderbot_joint import BlenderBotJoint
from fires_exp.baselines.interface import TrainedBaseline
from fires_exp.baselines.smes import Smes

BASELINES: Mapping[str, TrainedBaseline] = {baseline.name: baseline for baseline in (Smes(), BlenderBotJoint(), Bbmhr())}
