"""Answers to a split as a stage: one JSON line an instance. A killed run goes on after the last whole batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fires_exp.data.records import SupportExample
from fires_exp.modules import ranks
from fires_exp.modules.training import chunks
from fires_exp.policy.policy import Policy
from fires_exp.policy.sampling import sample_completions, stream_seed
from fires_exp.prompts.processor import EncodedPrompt
from fires_exp.stages.artefact import Artefact, code_hash, whole_lines, write_atomically
from fires_exp.stages.fit import ADAPTER
from fires_exp.stages.workspace import MODEL_CODE, Workspace
from fires_exp.thinking.tags import parse_completion

PREDICTIONS = "predictions.jsonl"


def make_predictions(work: Workspace, adapters: Sequence[Artefact]) -> Artefact:
    """What the policy with these adapters folded in answers to the test instances."""
    config = work.config.predict
    examples = work.test_examples
    depends_on = {
        **work.model_inputs(),
        "examples": work.identity(examples, work.test_dataset),
        "adapters": [adapter.key for adapter in adapters],
        "predict": asdict(config),
        "code": code_hash(*MODEL_CODE, "modules/ranks.py", "stages/predict.py"),
    }

    def build(folder: Path) -> None:
        path = folder / PREDICTIONS
        done = ranks.from_first(_keep_whole_batches(path, config.batch_size) if ranks.is_first() else 0)
        policy = work.policy([adapter.folder / ADAPTER for adapter in adapters])
        encode = work.encode(policy.processor, work.test_dataset, examples)
        bar = tqdm(total=len(examples), initial=done, desc="answering", unit="instance", disable=not work.config.trainer.progress)
        with bar:
            # a round is a batch a rank: the batches are those of one process, so the answers are too
            for batches in chunks(chunks(examples[done:], config.batch_size), ranks.count()):
                own = batches[ranks.rank()] if ranks.rank() < len(batches) else ()
                rows = ranks.joined(_answer(work, policy, own, encode))
                _append(path, rows)
                bar.update(len(rows))

    return work.make("predictions", depends_on, build, together=True)


def _answer(
    work: Workspace, policy: Policy, batch: Sequence[SupportExample], encode: Callable[[SupportExample], EncodedPrompt]
) -> list[dict[str, Any]]:
    if not batch:
        return []
    seeds = [[stream_seed(work.config.seed, "predict", example.id)] for example in batch]
    answers = sample_completions(policy, [encode(example) for example in batch], work.config.predict.decoding, seeds)
    return [
        prediction_row(work, example, answer.text, answer.finish_reason)
        for example, (answer,) in zip(batch, answers, strict=True)
    ]


@ranks.first_only
def _append(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def prediction_row(work: Workspace, example: SupportExample, completion: str, finish_reason: str) -> dict[str, Any]:
    """One prediction: `completion` as it was written, and what was read out of it."""
    parsed = parse_completion(completion, work.plan)
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
    """The rows of a predictions artefact."""
    with (folder / PREDICTIONS).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _keep_whole_batches(path: Path, batch_size: int) -> int:
    """Cut a file that a killed run left to its last whole batch; how many instances it answers."""
    lines = whole_lines(path)
    whole = len(lines) // batch_size * batch_size
    write_atomically(path, "".join(line + "\n" for line in lines[:whole]))
    return whole
