"""Answers to a split as a stage: one JSON line an instance. A killed run goes on after the last whole batch."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fires_exp.data.records import SupportExample
from fires_exp.distributed import collectives
from fires_exp.errors import StoppedError
from fires_exp.pipeline.workspace import Workspace
from fires_exp.policy.sampling import sample_completions, stream_seed
from fires_exp.storage.artifacts import Artifact, whole_lines, write_atomically
from fires_exp.storage.code_fingerprint import code_fingerprint
from fires_exp.thinking.tags import ParsedCompletion, parse_completion
from fires_exp.training import preemption
from fires_exp.training.fit import ADAPTER
from fires_exp.training.stepped_module import chunks

PREDICTIONS = "predictions.jsonl"


def make_predictions(work: Workspace, adapters: Sequence[Artifact]) -> Artifact:
    """What the policy with these adapters folded in answers to the test instances."""
    config = work.config.predict
    examples = work.test_examples
    depends_on = {
        **work.model_inputs(),
        "examples": work.identity(examples, work.test_dataset),
        "adapters": [adapter.key for adapter in adapters],
        "predict": asdict(config),
        "code": code_fingerprint("pipeline.stages.predictions"),
    }

    def build(folder: Path) -> None:
        policy = work.policy([adapter.folder / ADAPTER for adapter in adapters])
        encode = work.encode(policy.processor, work.test_dataset, examples)

        def answer(batch: Sequence[SupportExample]) -> list[dict[str, Any]]:
            seeds = [[stream_seed(work.config.seed, "predict", example.id)] for example in batch]
            answers = sample_completions(policy, [encode(example) for example in batch], config.decoding, seeds)
            return [
                prediction_row(work, example, one.text, one.finish_reason) for example, (one,) in zip(batch, answers, strict=True)
            ]

        answer_all(work, folder, answer)

    return work.make("predictions", depends_on, build, together=True)


def answer_all(work: Workspace, folder: Path, answer: Callable[[Sequence[SupportExample]], list[dict[str, Any]]]) -> None:
    """The rows that `answer` gives to each batch of test instances, written as they come; whole batches are not asked again."""
    path, size, examples = folder / PREDICTIONS, work.config.predict.batch_size, work.test_examples
    done = collectives.from_first(_keep_whole_batches(path, size) if collectives.is_first() else 0)
    bar = tqdm(total=len(examples), initial=done, desc="answering", unit="instance", disable=not work.config.trainer.progress)
    longest_seconds = 0.0
    with bar, preemption.deferred():
        # a round is a batch a rank: the batches are those of one process, so the answers are too
        for batches in chunks(chunks(examples[done:], size), collectives.count()):
            began = time.monotonic()
            rows = collectives.joined(answer(batches[collectives.rank()]) if collectives.rank() < len(batches) else [])
            _append(path, rows)
            bar.update(len(rows))
            done += len(rows)
            longest_seconds = max(longest_seconds, time.monotonic() - began)
            if done < len(examples) and (reason := preemption.reason(longest_seconds)):
                raise StoppedError(f"predictions stopped after {done} of {len(examples)} instances by {reason}")


@collectives.first_only
def _append(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def prediction_row(work: Workspace, example: SupportExample, completion: str, finish_reason: str) -> dict[str, Any]:
    """One prediction: `completion` as it was written, and what was read out of it."""
    return parsed_row(example, completion, finish_reason, parse_completion(completion, work.plan))


def parsed_row(example: SupportExample, completion: str, finish_reason: str, parsed: ParsedCompletion) -> dict[str, Any]:
    """The same for a completion that was read already."""
    return {
        "id": example.id,
        "completion": completion,
        "thought": parsed.thought,
        "response": parsed.response,
        "well_formed": parsed.well_formed,
        "finish_reason": finish_reason,
        "context": example.last_seeker_text,
        "reference_response": example.reference_response,
    }


def read_predictions(folder: Path) -> list[dict[str, Any]]:
    """The rows of a predictions artifact."""
    with (folder / PREDICTIONS).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _keep_whole_batches(path: Path, batch_size: int) -> int:
    """Cut a file that a killed run left to its last whole batch; how many instances it answers."""
    lines = whole_lines(path)
    whole = len(lines) // batch_size * batch_size
    write_atomically(path, "".join(line + "\n" for line in lines[:whole]))
    return whole
