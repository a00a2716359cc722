"""Which stages of a recipe are finished, found by asking the stages themselves for their keys; nothing is made."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from fires_exp.errors import CollapseError
from fires_exp.pipeline.stages.baseline import BASELINE
from fires_exp.pipeline.stages.epitome import NamedScorer, make_scorer, needs_scorer
from fires_exp.pipeline.stages.grpo import make_grpo
from fires_exp.pipeline.stages.predictions import make_predictions
from fires_exp.pipeline.stages.sft import make_sft
from fires_exp.pipeline.stages.thoughts import make_thoughts
from fires_exp.pipeline.workspace import Workspace
from fires_exp.scores.epitome.scorer import EpitomeScorer, scorer_version
from fires_exp.storage.artifacts import Artifact, look


@dataclass(frozen=True, kw_only=True, slots=True)
class Pending:
    """A stage as it stands; `policy` is whose answers a stage `predictions` makes."""

    artifact: Artifact
    policy: str | None

    @property
    def label(self) -> str:
        return f"answers of {self.policy}" if self.policy else self.artifact.stage


class Survey(Workspace):
    """A workspace whose stages are looked at where they would be made. It shares what the other has read."""

    def __init__(self, work: Workspace) -> None:
        self.__dict__.update(work.__dict__)
        self.made = []

    def make(self, stage: str, depends_on: dict[str, Any], build: Callable[[Path], None], *, together: bool) -> Artifact:
        artifact = look(self.artifacts, stage, depends_on)
        self.made.append(artifact)
        return artifact


def survey(work: Workspace) -> list[Pending]:
    """The stages of the recipe in their order; those that a service answers are left out, since they take nothing here."""
    seen = Survey(work)
    config, stages = work.config, work.config.recipe.stages
    thoughts = sft = grpo = scorer = None
    if "train_epitome" in stages or (needs_scorer(config) and config.reward.support_skill.scorer is None):
        make_scorer(seen)
    if needs_scorer(config):
        scorer = _identity(seen)
    if work.plan.thinks and {"synthesize", "sft"} & set(stages):
        thoughts = make_thoughts(seen)
    if "sft" in stages:
        sft = make_sft(seen, thoughts)
    if "grpo" in stages:
        with suppress(CollapseError):  # told when the stage is reached
            make_grpo(seen, sft, scorer)
        grpo = seen.made[-1]
    found = {artifact.folder: Pending(artifact=artifact, policy=None) for artifact in seen.made}
    adapters = {"zero_shot": [], "sft": [sft], "grpo": [sft, grpo]}
    for policy in config.recipe.policies:
        if policy != BASELINE:
            answers = make_predictions(seen, [adapter for adapter in adapters[policy] if adapter is not None])
            found.setdefault(answers.folder, Pending(artifact=answers, policy=policy))
    return list(found.values())


def _identity(seen: Survey) -> NamedScorer:
    """The scorer's identity; the scorer itself is not loaded, since a stage that is only looked at does not ask it."""
    folder = seen.config.reward.support_skill.scorer
    identity = make_scorer(seen).key if folder is None else scorer_version(Path(folder).expanduser())
    return NamedScorer(scorer=cast(EpitomeScorer, None), identity=identity)
