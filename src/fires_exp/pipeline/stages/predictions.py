"""Predictions for the test split as a stage: one JSON line an instance. After a kill it continues after the last whole batch."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from tqdm import tqdm

from fires_exp.config.root import Config
from fires_exp.config.scoring import PredictConfig
from fires_exp.data.chunking import chunks
from fires_exp.data.instances import Instances
from fires_exp.data.records import SupportExample
from fires_exp.distributed import collectives
from fires_exp.errors import StoppedError
from fires_exp.pipeline.planner import Planner
from fires_exp.pipeline.preflight.disk import predictions_bytes
from fires_exp.pipeline.preflight.memory import MemoryEstimate, prediction_memory
from fires_exp.pipeline.preflight.sizes import Sizes
from fires_exp.pipeline.preflight.stage_estimate import StageEstimate
from fires_exp.pipeline.preflight.token_lengths import TokenLengths
from fires_exp.pipeline.stage import Stage
from fires_exp.policy.factory import PolicyFactory
from fires_exp.policy.sampling import sample_completions, stream_seed
from fires_exp.storage.artifacts import Artifact
from fires_exp.storage.files import complete_lines, write_atomically
from fires_exp.thinking.aspects import ThinkingPlan
from fires_exp.thinking.tags import ParsedCompletion, parse_completion
from fires_exp.training import preemption
from fires_exp.training.fit import ADAPTER

PREDICTIONS = "predictions.jsonl"

# the rows of a batch of instances
PredictBatch = Callable[[Sequence[SupportExample]], list[dict[str, Any]]]


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictionsStage(Stage):
    """The completions of a policy for the instances of `test`. `adapters` are the stages whose adapters are merged, in order."""

    name: ClassVar[str] = "predictions"
    on_all_ranks: ClassVar[bool] = True
    reads_frames: ClassVar[bool] = True
    memory_settings: ClassVar[tuple[str, ...]] = (
        "predict.batch_size", "predict.decoding.max_new_tokens", "prompt.max_tokens",
    )  # fmt: skip

    policy: str
    adapters: tuple[Stage, ...]
    test: Instances
    config: PredictConfig
    factory: PolicyFactory
    seed: int
    progress: bool

    @classmethod
    def plan_policy(cls, planner: Planner, policy: str) -> Stage:
        return planner.add(
            cls(
                artifacts=planner.artifacts,
                policy=policy,
                adapters=planner.adapters[policy],
                test=planner.test,
                config=planner.config.predict,
                factory=planner.factory,
                seed=planner.config.seed,
                progress=planner.config.trainer.progress,
            )
        )

    @property
    def label(self) -> str:
        return f"predictions of {self.policy}"

    @property
    def needs(self) -> tuple[Stage, ...]:
        return self.adapters

    def key_inputs(self) -> dict[str, Any]:
        return {
            **self.factory.key_inputs(),
            "seed": self.seed,
            "test": self.test.identity(with_frames=self.factory.frames.name != "none"),
            "predict": asdict(self.config),
        }

    def build(self, folder: Path) -> None:
        policy = self.factory.build([stage.folder / ADAPTER for stage in self.adapters])
        encode = self.factory.encoder(policy.processor, self.test.video_root, self.test.examples)

        def predict(batch: Sequence[SupportExample]) -> list[dict[str, Any]]:
            seeds = [[stream_seed(self.seed, "predict", example.id)] for example in batch]
            groups = sample_completions(policy, [encode(example) for example in batch], self.config.decoding, seeds)
            return [
                prediction_row(self.factory.plan, example, completion.text, completion.finish_reason)
                for example, (completion,) in zip(batch, groups, strict=True)
            ]

        predict_all(self.test, folder, predict, batch_size=self.config.batch_size, progress=self.progress)

    def publish(self, artifact: Artifact, run_folder: Path) -> None:
        publish_predictions(artifact, run_folder, self.policy)

    def estimate(self, sizes: Sizes) -> StageEstimate:
        count, tokens = len(self.test), len(self.test) * self.config.decoding.max_new_tokens
        return StageEstimate(
            steps=-(-count // self.config.batch_size),
            prompts=count,
            prompt_tokens=round(count * self._lengths(sizes).mean_prompt),
            completion_tokens=tokens,
            disk=predictions_bytes(count, tokens),
        )

    def memory(self, config: Config, sizes: Sizes) -> MemoryEstimate:
        return prediction_memory(sizes.hardware, config, self._lengths(sizes))

    def _lengths(self, sizes: Sizes) -> TokenLengths:
        return sizes.measure(self.test, lambda _: self.config.decoding.max_new_tokens)


def predict_all(test: Instances, folder: Path, predict: PredictBatch, *, batch_size: int, progress: bool) -> None:
    """Write the rows that `predict` gives for each batch of instances as they come; whole batches are not predicted again."""
    path, examples = folder / PREDICTIONS, test.examples
    done = collectives.broadcast(_keep_whole_batches(path, batch_size) if collectives.is_main() else 0)
    longest_seconds = 0.0
    bar = tqdm(total=len(examples), initial=done, desc="predicting", unit="instance", disable=not progress)
    with bar, preemption.deferred():
        # each rank gets whole batches, the same as in a single process, so that the completions are the same too
        for batches in chunks(chunks(examples[done:], batch_size), collectives.world_size()):
            started = time.monotonic()
            rows = collectives.gather_items(predict(batches[collectives.rank()]) if collectives.rank() < len(batches) else [])
            _append(path, rows)
            bar.update(len(rows))
            done += len(rows)
            longest_seconds = max(longest_seconds, time.monotonic() - started)
            if done < len(examples) and (reason := preemption.stop_reason(longest_seconds)):
                raise StoppedError(f"predictions stopped after {done} of {len(examples)} instances by {reason}")


def publish_predictions(artifact: Artifact, run_folder: Path, policy: str) -> None:
    """Copy a predictions artifact to `predictions/<policy>.jsonl` of the run folder."""
    (run_folder / "predictions").mkdir(exist_ok=True)
    shutil.copyfile(artifact.folder / PREDICTIONS, run_folder / "predictions" / f"{policy}.jsonl")


def prediction_row(plan: ThinkingPlan, example: SupportExample, completion: str, finish_reason: str) -> dict[str, Any]:
    """One prediction: the completion and its parts."""
    return parsed_row(example, completion, finish_reason, parse_completion(completion, plan))


def parsed_row(example: SupportExample, completion: str, finish_reason: str, parsed: ParsedCompletion) -> dict[str, Any]:
    """The same for a completion that has been parsed."""
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


@collectives.main_rank_only
def _append(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _keep_whole_batches(path: Path, batch_size: int) -> int:
    """Cut a file that a killed run left to its last whole batch; the number of instances in it."""
    lines = complete_lines(path)
    count = len(lines) // batch_size * batch_size
    write_atomically(path, "".join(line + "\n" for line in lines[:count]))
    return count
