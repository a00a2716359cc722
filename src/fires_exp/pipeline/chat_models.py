"""Who answers a stage's questions: a service, or the backbone; and what happens where a run only rehearses."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TextIO

from fires_exp.config.model import BackboneConfig, SamplingConfig
from fires_exp.config.services import ServiceConfig
from fires_exp.data.records import SupportExample
from fires_exp.errors import ConfigError
from fires_exp.pipeline.workspace import Workspace
from fires_exp.policy.backbone import build_policy
from fires_exp.policy.policy import Policy
from fires_exp.policy.sampling import sample_completions, stream_seed
from fires_exp.prompts.processor import encode_chat
from fires_exp.services.asked_keys import Tally
from fires_exp.services.client import api_key
from fires_exp.services.concurrency import Crowd, ledger_path
from fires_exp.services.dry_run import Estimate, Rehearsal, batch_line, read_batch_results
from fires_exp.services.messages import Answer, Asker, Question, Refusal, Usage, question_key
from fires_exp.services.response_cache import Ledger

log = logging.getLogger("fires_exp.pipeline")


def service(work: Workspace, config: ServiceConfig, tally: Tally) -> Asker:
    """The configured service; what it once answered is not asked again, whichever run and stage has asked."""
    return Crowd(config, _ledger(work, config), tally).ask


def check_service(config: ServiceConfig) -> None:
    """Raises `ConfigError` before anything is made where the key or the file of a batch service's answers is missing."""
    if config.sends:
        api_key(config)
    if config.batch_results is not None and not Path(config.batch_results).is_file():
        raise ConfigError(
            f"{config.GROUP}.batch_results={config.batch_results}: no such file; write the results file of a batch service"
        )


def rehearse(work: Workspace, config: ServiceConfig, run: Callable[[Asker], object]) -> str:
    """Run with an asker that sends nothing; what would be asked, in words, or where the batch file lies."""
    ledger = _ledger(work, config)
    if config.batch_requests is None:
        estimate = Estimate(config)
        rehearsal = Rehearsal(config, ledger, estimate.note)
        run(rehearsal.ask)
        return f"dry run, nothing was sent:\n{estimate.in_words(rehearsal.answered)}"
    path = Path(config.batch_requests)
    count = 0
    with _new(path, config) as file:

        def note(key: str, question: Question) -> None:
            nonlocal count
            file.write(batch_line(key, question, config))
            count += 1

        run(Rehearsal(config, ledger, note).ask)
    return f"{count} requests are in {path}, nothing was sent; read the answers with {config.GROUP}.batch_results=<results file>"


def _new(path: Path, config: ServiceConfig) -> TextIO:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{config.GROUP}.batch_requests={path}: cannot be written ({error.strerror}); name a file in a folder that is there"
        ) from None


def _ledger(work: Workspace, config: ServiceConfig) -> Ledger:
    ledger = Ledger(ledger_path(work.artifacts, config))
    if config.batch_results is not None:
        new = read_batch_results(Path(config.batch_results), ledger)
        log.info("%d new answers from %s", new, config.batch_results)
    return ledger


class Backbone:
    """An asker that lets a backbone answer, by our own sampling, `in_flight` questions at a time; `examples` has the instances by
    id. The backbone is loaded when the first question comes that was not answered before."""

    def __init__(
        self,
        work: Workspace,
        backbone: BackboneConfig,
        sampling: SamplingConfig,
        in_flight: int,
        examples: Mapping[str, SupportExample],
    ) -> None:
        self._work = work
        self._backbone = backbone
        self._in_flight = in_flight
        self._examples = examples
        self._sampling = sampling
        self._asked_of = [asdict(backbone), asdict(sampling), work.config.seed]
        self._ledger = Ledger(work.artifacts / "answers" / f"backbone-{backbone.name}.jsonl")

    @cached_property
    def _policy(self) -> Policy:
        return build_policy(self._backbone, self._work.cache, self._work.device)

    def ask(self, questions: Iterable[Question]) -> Iterator[tuple[Question, Answer | Refusal]]:
        waiting: list[tuple[str, Question]] = []
        for question in questions:
            key = question_key(question, self._asked_of)
            known = self._ledger.find(key)
            if known is not None:
                yield question, known
                continue
            waiting.append((key, question))
            if len(waiting) == self._in_flight:
                yield from self._answers(waiting)
                waiting = []
        if waiting:
            yield from self._answers(waiting)

    def _answers(self, batch: Sequence[tuple[str, Question]]) -> Iterator[tuple[Question, Answer]]:
        started = time.monotonic()
        processor = self._policy.processor
        prompts = [encode_chat(processor, self._examples[question.id], question.messages) for _, question in batch]
        seeds = [[stream_seed(self._work.config.seed, "teacher", key)] for key, _ in batch]
        completions = sample_completions(self._policy, prompts, self._sampling, seeds)
        seconds = (time.monotonic() - started) / len(batch)
        for (key, question), prompt, (completion,) in zip(batch, prompts, completions, strict=True):
            answer = Answer(
                text=completion.text,
                reasoning="",
                finish_reason=completion.finish_reason,
                model=self._policy.name,
                usage=Usage(prompt_tokens=len(prompt.prompt_ids), completion_tokens=len(completion.ids)),
                seconds=round(seconds, 3),
                created=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            self._ledger.add(key, question.id, answer)
            yield question, answer
