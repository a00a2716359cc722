"""The judge of GRPO's responses: its service, an estimate of its cost, and its use by several ranks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fires_exp.config.scoring import RewardConfig
from fires_exp.config.services import JudgeConfig
from fires_exp.config.training import GrpoConfig
from fires_exp.data.instances import Instances
from fires_exp.data.records import SupportExample
from fires_exp.distributed import collectives
from fires_exp.grpo.rewards import ResponseJudge
from fires_exp.pipeline.chat_models import describe_requests, service
from fires_exp.scores.judge import PairwiseJudge, ReferenceJudge, estimated_requests
from fires_exp.services.messages import ChatBackend
from fires_exp.services.wire_format import response_settings
from fires_exp.training.fit import training_plan

REQUESTED = "judge_asked.txt"


def judge_identity(config: RewardConfig) -> list[Any] | None:
    """The settings that determine what the judge answers; None where the reward has no judge."""
    return response_settings(config.judge) if config.judge_weight > 0 else None


def reference_judge(artifacts: Path, config: RewardConfig, folder: Path) -> ResponseJudge | None:
    """The judge of the reward, if it has one; the stage's `folder` keeps count of its requests."""
    if config.judge_weight == 0:
        return None
    if not collectives.is_main():
        return SharedJudge(None)
    ask = service(artifacts, config.judge, key_file=folder / REQUESTED)
    return SharedJudge(ReferenceJudge(judge=PairwiseJudge(ask=ask, attempts=config.judge.attempts)))


def describe_judge_requests(artifacts: Path, judge: JudgeConfig, grpo: GrpoConfig, train: Instances, seed: int) -> str:
    """The most that judging may request, as text; completions are assumed to be as long as the references."""
    plan = training_plan(grpo, len(train), seed)
    judged = (train.examples[index] for step in plan for index in step for _ in range(grpo.num_generations))

    def run(ask: ChatBackend) -> None:
        for _ in ask(estimated_requests(judged)):
            pass

    text = describe_requests(artifacts, judge, run)
    return f"{text}\n{len(plan)} steps of GRPO, every completion well-formed, no two alike, as long as the reference"


class SharedJudge:
    """A judge that the main rank asks for all ranks, so that rate limit and budget are those of one process. `scores` is a
    collective."""

    def __init__(self, judge: ResponseJudge | None) -> None:
        self._judge = judge

    def scores(self, answers: Sequence[tuple[SupportExample, str]]) -> list[float]:
        """As `ResponseJudge.scores`, for this rank's responses."""
        pieces = collectives.all_gather(list(answers))
        everything = [answer for piece in pieces for answer in piece]
        scores = collectives.broadcast(self._judge.scores(everything) if self._judge else [])
        before = sum(len(piece) for piece in pieces[: collectives.rank()])
        return scores[before : before + len(answers)]
