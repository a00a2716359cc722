"""The cold start as a stage: thoughts and reference responses in, an adapter out."""

from __future__ import annotations

import json
import logging
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from fires_exp.config.root import Config
from fires_exp.config.services import TeacherConfig
from fires_exp.config.training import SftConfig
from fires_exp.data.instances import Instances
from fires_exp.data.records import SupportExample
from fires_exp.distributed import collectives
from fires_exp.errors import StageError
from fires_exp.pipeline.planner import Planner
from fires_exp.pipeline.preflight.disk import training_bytes
from fires_exp.pipeline.preflight.memory import MemoryEstimate, sft_memory
from fires_exp.pipeline.preflight.sizes import Sizes
from fires_exp.pipeline.preflight.stage_estimate import StageEstimate, steps_left
from fires_exp.pipeline.preflight.token_lengths import TokenLengths
from fires_exp.pipeline.stage import Stage
from fires_exp.pipeline.stages.thoughts import BANK, ThoughtsStage
from fires_exp.policy.factory import PolicyFactory
from fires_exp.policy.frame_sensitivity import frame_sensitivity
from fires_exp.storage.artifacts import Artifact
from fires_exp.storage.files import write_atomically
from fires_exp.thinking.bank import BankedThought, read_bank
from fires_exp.thinking.rule_teacher import thought_by_rules
from fires_exp.thinking.tags import render_completion
from fires_exp.training.checkpoints import checkpointed_steps
from fires_exp.training.fit import FACTS, TrainingLoop, fresh_adapter, training_plan
from fires_exp.training.sft import SftItem, SftModule
from fires_exp.training.step_loader import FullPassLoader, StepLoader

FRAME_SENSITIVITY = "frame_sensitivity.json"

log = logging.getLogger("fires_exp.pipeline")


@dataclass(frozen=True, kw_only=True, eq=False)
class SftStage(Stage):
    """The cold start's adapter. `train` is the drawn share of the split; without `thoughts` (plan `none`) the response alone is
    learned. `validation` is empty where no validation loss is logged. `teacher` serves the estimate alone."""

    name: ClassVar[str] = "sft"
    on_all_ranks: ClassVar[bool] = True
    logs_steps: ClassVar[bool] = True
    reads_frames: ClassVar[bool] = True
    memory_settings: ClassVar[tuple[str, ...]] = ("sft.micro_batch_size", "sft.gradient_checkpointing", "prompt.max_tokens")

    config: SftConfig
    train: Instances
    validation: Instances
    thoughts: ThoughtsStage | None
    teacher: TeacherConfig
    factory: PolicyFactory
    loop: TrainingLoop
    seed: int
    prefetch_steps: int

    @classmethod
    def plan(cls, planner: Planner) -> None:
        """Thoughts are synthesized first, also where the recipe does not list `synthesize`."""
        config = planner.config
        ThoughtsStage.plan(planner)
        train, validation = sft_instances(planner)
        stage = planner.add(
            cls(
                artifacts=planner.artifacts,
                config=config.sft,
                train=train,
                validation=validation,
                thoughts=planner.find(ThoughtsStage) if planner.thinking.thinks else None,
                teacher=config.teacher,
                factory=planner.factory,
                loop=planner.loop,
                seed=config.seed,
                prefetch_steps=config.trainer.prefetch_steps,
            )
        )
        planner.adapters["sft"] = (stage,)

    @property
    def needs(self) -> tuple[Stage, ...]:
        return (self.thoughts,) if self.thoughts else ()

    def key_inputs(self) -> dict[str, Any]:
        settings = asdict(self.config)
        del settings["checkpoint_every_steps"]
        with_frames = self.factory.frames.name != "none"
        return {
            **self.factory.key_inputs(),
            "seed": self.seed,
            "train": self.train.identity(with_frames),
            "validation": self.validation.identity(with_frames),
            "sft": settings,
        }

    def build(self, folder: Path) -> None:
        """Raises `StageError` where no instance has a thought."""
        policy = self.factory.build([])
        fresh_adapter(policy, self.config, self.seed)
        bank = read_bank(self.thoughts.folder / BANK) if self.thoughts else None
        train, validation = (_with_thoughts(split.examples, bank) for split in (self.train, self.validation))
        if not train:
            raise StageError(
                f"no instance drawn by sft.fraction={self.config.fraction} has a thought; draw more, or correct the bank"
            )
        encode = self.factory.encoder(policy.processor, self.train.video_root, (*train, *validation))
        encoder = self.factory.prompt_encoder(policy.processor)

        def completion(example: SupportExample) -> Tensor:
            thought = bank[example.id].thought.text if bank else ""
            return encoder.completion_ids(render_completion(thought, example.reference_response, self.factory.plan))

        def item(example: SupportExample) -> SftItem:
            return SftItem(prompt=encode(example), completion_ids=completion(example))

        plan = training_plan(self.config, len(train), self.seed)
        module = SftModule(
            policy,
            self.config,
            total_updates=len(plan),
            seed=self.seed,
            validation=FullPassLoader(len(validation), lambda index: item(validation[index])) if validation else None,
        )
        loader = StepLoader(plan, lambda index: item(train[index]), prefetch=self.prefetch_steps)
        self.loop.fit(module, loader, folder, stage=self.name, checkpoint_every_steps=self.config.checkpoint_every_steps)
        if collectives.is_main():
            sensitivity = frame_sensitivity(policy, train, encode, completion)
            write_atomically(folder / FRAME_SENSITIVITY, json.dumps(sensitivity) + "\n")

    def publish(self, artifact: Artifact, run_folder: Path) -> None:
        """The frame sensitivity, with a message where the adapter was trained earlier."""
        facts = json.loads((artifact.folder / FACTS).read_text())
        log.info("sft trained %s parameters in %d steps", f"{facts['trainable_parameters']:,}", facts["steps"])
        shutil.copyfile(artifact.folder / FRAME_SENSITIVITY, run_folder / FRAME_SENSITIVITY)
        sensitivity = json.loads((artifact.folder / FRAME_SENSITIVITY).read_text())
        if sensitivity is None:
            log.info("frame sensitivity: not measured, no two instances have frames of one size")
        elif artifact.reused:
            log.info(
                "frame sensitivity (when it was trained): swapped frames changed log-probabilities by %.4f nats a token",
                sensitivity["nats_per_token"],
            )

    def estimate(self, sizes: Sizes) -> StageEstimate:
        done = checkpointed_steps(self.folder)
        steps, prompts = steps_left(self.config, len(self.train), done)
        lengths = self._lengths(sizes)
        return StageEstimate(
            steps=steps,
            steps_done=done,
            prompts=prompts,
            prompt_tokens=round(prompts * lengths.mean_prompt),
            completion_tokens=round(prompts * lengths.mean_completion),
            disk=training_bytes(
                sizes.trained_parameters(self.config.lora), checkpoints=self.loop.trainer.keep_checkpoints, steps=steps
            ),
        )

    def memory(self, config: Config, sizes: Sizes) -> MemoryEstimate:
        return sft_memory(sizes.hardware, config, self._lengths(sizes))

    def _lengths(self, sizes: Sizes) -> TokenLengths:
        return sizes.measure(self.train, completion_tokens(sizes, self.factory, self.thoughts, self.teacher))


def completion_tokens(
    sizes: Sizes, factory: PolicyFactory, thoughts: ThoughtsStage | None, teacher: TeacherConfig
) -> Callable[[SupportExample], int]:
    """The length of the completion that SFT learns for an instance: with the bank's thought, with that of the rules, or with the
    longest that a model may write."""
    bank = read_bank(thoughts.folder / BANK) if thoughts and thoughts.is_finished else {}
    plan = factory.plan

    def count(example: SupportExample) -> int:
        thought, more = "", 0
        if example.id in bank:
            thought = bank[example.id].thought.text
        elif plan.thinks and teacher.name == "rules":
            thought = thought_by_rules(example, plan).text
        elif plan.thinks:
            more = teacher.max_tokens
        return more + len(sizes.encoder.completion_ids(render_completion(thought, example.reference_response, plan)))

    return count


def sft_instances(planner: Planner) -> tuple[Instances, Instances]:
    """The instances that SFT trains on, by `sft.fraction`, and those of its validation loss."""
    config, train = planner.config.sft, planner.train
    drawn = draw_fraction(train.examples, config.fraction, planner.config.seed)
    validation = planner.val if config.validate_every_steps is not None else replace(planner.val, examples=())
    return replace(train, examples=drawn), validation


def draw_fraction(examples: Sequence[SupportExample], fraction: float, seed: int) -> tuple[SupportExample, ...]:
    """A seeded draw of `fraction` of the instances, at least one, in the corpus's order; a larger draw contains the smaller."""
    order = list(range(len(examples)))
    random.Random(f"{seed}/fraction").shuffle(order)  # noqa: S311
    return tuple(examples[index] for index in sorted(order[: max(1, round(fraction * len(examples)))]))


def _with_thoughts(examples: tuple[SupportExample, ...], bank: Mapping[str, BankedThought] | None) -> tuple[SupportExample, ...]:
    """The instances that have a thought in the bank; all of them without a bank."""
    if bank is None:
        return examples
    with_thought = tuple(example for example in examples if example.id in bank)
    if len(with_thought) < len(examples):
        log.info("%d of %d instances have a thought; the others are left out", len(with_thought), len(examples))
    return with_thought
