"""The judge of GRPO's responses: its service, what it would cost, and the ranks that share it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fires_exp.data.records import SupportExample
from fires_exp.distributed import collectives
from fires_exp.grpo.rewards import ResponseJudge
from fires_exp.pipeline.chat_models import rehearse, service
from fires_exp.pipeline.workspace import Workspace
from fires_exp.scores.judge import PairwiseJudge, ReferenceJudge, estimate_questions
from fires_exp.services.asked_keys import Tally
from fires_exp.services.messages import Asker, asked_of
from fires_exp.training.fit import training_plan

ASKED = "judge_asked.txt"


def judge_identity(work: Workspace) -> list[Any] | None:
    """Whatever of the configuration decides what the judge says; None where nobody judges."""
    config = work.config.reward
    return asked_of(config.judge) if config.judge_weight > 0 else None


def reference_judge(work: Workspace, folder: Path) -> ResponseJudge | None:
    """The judge that the reward wants, if it wants one; the stage's folder keeps count of what it was asked."""
    config = work.config.reward
    if config.judge_weight == 0:
        return None
    if not collectives.is_main():
        return JudgeOfRanks(None)
    ask = service(work, config.judge, Tally(folder / ASKED))
    return JudgeOfRanks(ReferenceJudge(judge=PairwiseJudge(ask=ask, attempts=config.judge.attempts)))


def rehearse_judge(work: Workspace) -> str:
    """What judging would ask at most, in words; completions are taken to be as long as the references."""
    config, examples = work.config.grpo, work.examples("train")
    plan = training_plan(config, len(examples), work.config.seed)
    judged = (examples[index] for step in plan for index in step for _ in range(config.num_generations))

    def ask(asker: Asker) -> None:
        for _ in asker(estimate_questions(judged)):
            pass

    told = rehearse(work, work.config.reward.judge, ask)
    return f"{told}\n{len(plan)} steps of GRPO, every completion well-formed, no two alike, as long as the reference"


class JudgeOfRanks:
    """The first rank asks for all, so that pace and budget are those of one process. `scores` is a meeting."""

    def __init__(self, judge: ResponseJudge | None) -> None:
        self._judge = judge

    def scores(self, answers: Sequence[tuple[SupportExample, str]]) -> list[float]:
        pieces = collectives.all_gather(list(answers))
        everything = [answer for piece in pieces for answer in piece]
        scores = collectives.broadcast(self._judge.scores(everything) if self._judge else [])
        before = sum(len(piece) for piece in pieces[: collectives.rank()])
        return scores[before : before + len(answers)]
