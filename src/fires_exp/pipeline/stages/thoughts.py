"""Thoughts for the instances that are learned from: a bank, and a list of the instances for which the teacher gave none.

    thoughts.jsonl    one line a thought            set_aside.jsonl    one line an instance without: reason, answers

A model's answers are kept outside the artifact, in `answers/` (`services/response_cache.py`), as they arrive: after a kill, with
more instances, or with other limits on leaks, only new requests are paid for.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image
from tqdm import tqdm

from fires_exp.config.model import Engine, SamplingConfig
from fires_exp.config.services import TeacherConfig
from fires_exp.data.instances import Instances
from fires_exp.data.records import SupportExample
from fires_exp.data.video.frames import FrameReader
from fires_exp.errors import ConfigError, StageError
from fires_exp.metrics.thoughts import aspect_shares
from fires_exp.pipeline.chat_models import BackboneChat, check_service, describe_requests, service
from fires_exp.pipeline.planner import Planner
from fires_exp.pipeline.preflight.disk import thoughts_bytes
from fires_exp.pipeline.preflight.sizes import Sizes
from fires_exp.pipeline.preflight.stage_estimate import StageEstimate
from fires_exp.pipeline.stage import Stage
from fires_exp.policy.factory import PolicyFactory
from fires_exp.prompts.processor import encode_chat
from fires_exp.prompts.teacher import prompt_hash, retry_message, teacher_messages
from fires_exp.prompts.truncation import fit_history
from fires_exp.report.plots import stacked_shares, standalone
from fires_exp.report.tables import shares_table
from fires_exp.services.messages import ChatBackend, ChatMessage
from fires_exp.services.wire_format import response_settings
from fires_exp.storage.artifacts import Artifact
from fires_exp.storage.files import write_atomically
from fires_exp.thinking.bank import BankedThought, read_bank, write_bank
from fires_exp.thinking.synthesis import SetAside, Teacher, thoughts_by_model, thoughts_by_rules
from fires_exp.thinking.teacher_answer import LeakLimits, parse_teacher_answer

BANK = "thoughts.jsonl"
SET_ASIDE = "set_aside.jsonl"
SHARES = "aspect_shares.svg"

log = logging.getLogger("fires_exp.pipeline")


@dataclass(frozen=True, kw_only=True, eq=False)
class ThoughtsStage(Stage):
    """The bank of `instances`. `engine` samples where the backbone is the teacher; `print_shares` also prints Figure 3."""

    name: ClassVar[str] = "thoughts"

    teacher: TeacherConfig
    instances: Instances
    factory: PolicyFactory
    seed: int
    engine: Engine
    progress: bool
    print_shares: bool

    @classmethod
    def plan(cls, planner: Planner) -> None:
        """`recipe.stages: [synthesize]`. A plan without thinking needs no thoughts."""
        if not planner.thinking.thinks:
            if planner.config.recipe.stages == ["synthesize"]:
                raise ConfigError(
                    f"recipe={planner.config.recipe.name} with aspects={planner.config.aspects.name}: there is no thought to "
                    "write; choose another aspects="
                )
            return
        train = planner.train
        others = planner.val.examples if "val" in planner.config.teacher.splits else ()
        planner.add(
            cls.of(planner, replace(train, split="+".join(planner.config.teacher.splits), examples=(*train.examples, *others)))
        )

    @classmethod
    def of(cls, planner: Planner, instances: Instances) -> ThoughtsStage:
        """The stage for some instances."""
        config = planner.config
        return cls(
            artifacts=planner.artifacts,
            teacher=config.teacher,
            instances=instances,
            factory=planner.factory,
            seed=config.seed,
            engine=config.predict.decoding.engine,
            progress=config.trainer.progress,
            print_shares=config.recipe.stages == ["synthesize"],
        )

    def check(self) -> None:
        if self.teacher.name == "openai":
            check_service(self.teacher)

    def key_inputs(self) -> dict[str, Any]:
        """Thoughts by rules depend on the rules' code; a model's on its prompt and on how its answers are read."""
        config, factory = self.teacher, self.factory
        inputs: dict[str, Any] = {
            "teacher": config.name,
            "plan": asdict(factory.plan),
            "examples": self.instances.identity(with_frames=factory.frames.name != "none"),
        }
        if config.name == "rules":
            return inputs
        inputs |= {
            "frames": asdict(factory.frames),
            "prompt": prompt_hash(factory.plan),
            "attempts": config.attempts,
            "leaks": asdict(self._leaks),
        }
        if config.name == "openai":
            return inputs | {"response_settings": response_settings(config)}
        return inputs | {
            "backbone": asdict(factory.backbone),
            "sampling": [asdict(self._sampling), self.seed, factory.device.type],
        }

    def build(self, folder: Path) -> None:
        """Raises `StageError` where not one thought is acceptable."""
        results = list(self._results())
        thoughts = {result.example_id: result for result in results if isinstance(result, BankedThought)}
        set_aside = sorted((result for result in results if isinstance(result, SetAside)), key=lambda row: row.example_id)
        lines = "".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in set_aside)
        write_atomically(folder / SET_ASIDE, lines)
        count = len(self.instances)
        if set_aside:
            log.warning(
                "%d of %d instances have no thought and are listed in %s, the first: %s",
                len(set_aside),
                count,
                folder / SET_ASIDE,
                set_aside[0].reason,
            )
        if not thoughts:
            raise StageError(f"none of {count} thoughts is acceptable; {folder / SET_ASIDE} lists the problem of each")
        write_bank(folder / BANK, [thoughts[example.id] for example in self.instances.examples if example.id in thoughts])

    def publish(self, artifact: Artifact, run_folder: Path) -> None:
        """The bank, the instances without a thought, and Figure 3; a run that does no more prints the figure's numbers."""
        shutil.copyfile(artifact.folder / BANK, run_folder / BANK)
        if (artifact.folder / SET_ASIDE).stat().st_size:
            shutil.copyfile(artifact.folder / SET_ASIDE, run_folder / SET_ASIDE)
        bank = [banked.thought for banked in read_bank(artifact.folder / BANK).values()]
        shares: dict[str, Mapping[Any, float]] = {aspect.label: row for aspect, row in aspect_shares(bank).items()}
        figure = stacked_shares(f"{len(bank)} thoughts", shares, ident="shares", legend=True)
        write_atomically(run_folder / SHARES, standalone(figure))
        if self.print_shares:
            print(f"{shares_table(shares, count=len(bank))}\n{run_folder / SHARES}")

    @property
    def is_dry_run(self) -> bool:
        return not self.teacher.sends

    def dry_run(self) -> str:
        return describe_requests(
            self.artifacts, self.teacher, lambda ask: list(thoughts_by_model(self._teacher(), ask, self.instances.examples))
        )

    def estimate(self, sizes: Sizes) -> StageEstimate:
        return StageEstimate(prompts=len(self.instances), disk=thoughts_bytes(len(self.instances)))

    def _results(self) -> Iterator[BankedThought | SetAside]:
        examples = self.instances.examples
        if self.teacher.name == "rules":
            yield from thoughts_by_rules(examples, self.factory.plan)
            return
        with tqdm(total=len(examples), desc="thinking", unit="instance", disable=not self.progress) as bar:
            for result in thoughts_by_model(self._teacher(), self._backend(), examples):
                bar.update()
                yield result

    def _backend(self) -> ChatBackend:
        config = self.teacher
        if config.name == "openai":
            return service(self.artifacts, config, key_file=None)
        by_id = {example.id: example for example in self.instances.examples}
        return BackboneChat(
            factory=self.factory,
            sampling=self._sampling,
            batch_size=config.max_concurrent_requests,
            examples=by_id,
            seed=self.seed,
            artifacts=self.artifacts,
        ).ask

    def _teacher(self) -> Teacher:
        config, plan = self.teacher, self.factory.plan
        frames = self.factory.frame_reader(self.instances.video_root)

        def messages(example: SupportExample) -> tuple[ChatMessage, ...]:
            return teacher_messages(example, frames.frames_of(example), plan)

        return Teacher(
            name=config.name,
            plan=plan,
            prompt_hash=prompt_hash(plan),
            messages=messages if config.name == "openai" else self._fitted(frames),
            parse=lambda text, example: parse_teacher_answer(text, plan, example, self._leaks),
            retry_message=retry_message,
            attempts=config.attempts,
        )

    def _fitted(self, frames: FrameReader) -> Callable[[SupportExample], tuple[ChatMessage, ...]]:
        """As `teacher_messages`, with the oldest turns dropped, each with its frames, until the backbone may read it."""
        processor, limit = self.factory.processor(), self.teacher.max_prompt_tokens

        def messages(example: SupportExample) -> tuple[ChatMessage, ...]:
            images: list[list[Image.Image]] = frames.frames_of(example)

            def render(dropped: int) -> tuple[tuple[ChatMessage, ...], int]:
                shortened = replace(example, history=example.history[dropped:])
                chat = teacher_messages(shortened, images[dropped:], self.factory.plan)
                return chat, len(encode_chat(processor, example, chat).prompt_ids)

            _, fitted = fit_history(
                render,
                example,
                limit=limit,
                limit_key="teacher.max_prompt_tokens",
                lower_keys=("frames.max_frames", "frames.max_pixels"),
            )
            return fitted

        return messages

    @property
    def _leaks(self) -> LeakLimits:
        return LeakLimits(max_words=self.teacher.max_leaked_words, max_share=self.teacher.max_leaked_share)

    @property
    def _sampling(self) -> SamplingConfig:
        return SamplingConfig(
            temperature=self.teacher.temperature or 0.0, top_p=1.0, max_new_tokens=self.teacher.max_tokens, engine=self.engine
        )
