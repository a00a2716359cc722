"""The rivals by the names that `trained_rival.name` takes."""

from __future__ import annotations

from collections.abc import Mapping

from fires_exp.rivals.bbmhr import Bbmhr
from fires_exp.rivals.blenderbot_joint import BlenderBotJoint
from fires_exp.rivals.rival import TrainedRival
from fires_exp.rivals.smes import Smes

RIVALS: Mapping[str, TrainedRival] = {rival.name: rival for rival in (Smes(), BlenderBotJoint(), Bbmhr())}
