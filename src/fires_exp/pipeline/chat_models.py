"""Chat models that answer a stage's requests: a service, or the backbone; and dry runs, which send none."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TextIO

from fires_exp.config.model import SamplingConfig
from fires_exp.config.services import ServiceConfig
from fires_exp.data.records import SupportExample
from fires_exp.errors import ConfigError
from fires_exp.policy.factory import PolicyFactory
from fires_exp.policy.policy import Policy
from fires_exp.policy.sampling import sample_completions, stream_seed
from fires_exp.prompts.processor import encode_chat
from fires_exp.services.batch_api import batch_line, read_batch_results
from fires_exp.services.budget import Budget
from fires_exp.services.client import api_key
from fires_exp.services.concurrency import ConcurrentClient
from fires_exp.services.dry_run import CostEstimate, DryRun
from fires_exp.services.messages import ChatBackend, ChatRequest, ChatResponse, Refusal, Usage
from fires_exp.services.response_cache import ResponseCache, cache_path
from fires_exp.services.wire_format import request_key

log = logging.getLogger("fires_exp.pipeline")


def service(artifacts: Path, config: ServiceConfig, *, key_file: Path | None) -> ChatBackend:
    """The configured service. Requests that any run or stage has sent before are answered from the response cache.
    `key_file` keeps the requests that count for the budget over several starts of a run; None counts those of this process."""
    return ConcurrentClient(config, _response_cache(artifacts, config), Budget(config, key_file)).complete


def check_service(config: ServiceConfig) -> None:
    """Raises `ConfigError` where the service's key, or the results file of its batch service, is missing."""
    if config.sends:
        api_key(config)
    if config.batch_results is not None and not Path(config.batch_results).is_file():
        raise ConfigError(
            f"{config.GROUP}.batch_results={config.batch_results}: file not found; write the results file of a batch service"
        )


def describe_requests(artifacts: Path, config: ServiceConfig, run: Callable[[ChatBackend], object]) -> str:
    """Run with a chat model that sends nothing. The estimated requests, tokens and costs as text, or where the requests were
    written for a batch service."""
    cache = _response_cache(artifacts, config)
    if config.batch_requests is None:
        estimate = CostEstimate(config)
        dry_run = DryRun(config, cache, estimate.add)
        run(dry_run.complete)
        return f"dry run, nothing was sent:\n{estimate.as_text(dry_run.cached_count)}"
    path = Path(config.batch_requests)
    count = 0
    with _new_file(path, config) as file:

        def write(key: str, question: ChatRequest) -> None:
            nonlocal count
            file.write(batch_line(key, question, config))
            count += 1

        run(DryRun(config, cache, write).complete)
    return f"{count} requests are in {path}, nothing was sent; read the answers with {config.GROUP}.batch_results=<results file>"


def _new_file(path: Path, config: ServiceConfig) -> TextIO:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{config.GROUP}.batch_requests={path}: cannot be written ({error.strerror}); name a file in a folder that exists"
        ) from None


def _response_cache(artifacts: Path, config: ServiceConfig) -> ResponseCache:
    cache = ResponseCache(cache_path(artifacts, config))
    if config.batch_results is not None:
        count = read_batch_results(Path(config.batch_results), cache)
        log.info("%d new answers from %s", count, config.batch_results)
    return cache


@dataclass(frozen=True, kw_only=True)
class BackboneChat:
    """A chat model that is a backbone with this project's own sampling, `batch_size` requests at a time. `examples` are the
    instances by id. The backbone is loaded for the first request that is not in the response cache."""

    factory: PolicyFactory
    sampling: SamplingConfig
    batch_size: int
    examples: Mapping[str, SupportExample]
    seed: int
    artifacts: Path

    def ask(self, questions: Iterable[ChatRequest]) -> Iterator[tuple[ChatRequest, ChatResponse | Refusal]]:
        settings = [asdict(self.factory.backbone), asdict(self.sampling), self.seed]
        waiting: list[tuple[str, ChatRequest]] = []
        for question in questions:
            key = request_key(question, settings)
            known = self._cache.find(key)
            if known is not None:
                yield question, known
                continue
            waiting.append((key, question))
            if len(waiting) == self.batch_size:
                yield from self._answers(waiting)
                waiting = []
        if waiting:
            yield from self._answers(waiting)

    @cached_property
    def _cache(self) -> ResponseCache:
        return ResponseCache(self.artifacts / "answers" / f"backbone-{self.factory.backbone.name}.jsonl")

    @cached_property
    def _policy(self) -> Policy:
        return self.factory.build([])

    def _answers(self, batch: Sequence[tuple[str, ChatRequest]]) -> Iterator[tuple[ChatRequest, ChatResponse]]:
        started = time.monotonic()
        processor = self._policy.processor
        prompts = [encode_chat(processor, self.examples[question.id], question.messages) for _, question in batch]
        seeds = [[stream_seed(self.seed, "teacher", key)] for key, _ in batch]
        completions = sample_completions(self._policy, prompts, self.sampling, seeds)
        seconds = (time.monotonic() - started) / len(batch)
        for (key, question), prompt, (completion,) in zip(batch, prompts, completions, strict=True):
            answer = ChatResponse(
                text=completion.text,
                reasoning="",
                finish_reason=completion.finish_reason,
                model=self._policy.name,
                usage=Usage(prompt_tokens=len(prompt.prompt_ids), completion_tokens=len(completion.ids)),
                seconds=round(seconds, 3),
                created=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            self._cache.add(key, question.id, answer)
            yield question, answer
