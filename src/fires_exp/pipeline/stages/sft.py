"""The cold start as a stage: thoughts and references in, an adapter out."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from fires_exp.data.records import SupportExample
from fires_exp.distributed import collectives
from fires_exp.errors import StageError
from fires_exp.pipeline.stages.thoughts import BANK
from fires_exp.pipeline.workspace import Workspace
from fires_exp.policy.frame_sensitivity import picture_canary
from fires_exp.storage.artifacts import Artifact, write_atomically
from fires_exp.storage.code_fingerprint import code_fingerprint
from fires_exp.thinking.bank import BankedThought, read_bank
from fires_exp.thinking.tags import render_completion
from fires_exp.training.fit import fit, fresh_adapter, training_plan
from fires_exp.training.sft import SftItem, SftModule
from fires_exp.training.step_loader import StepLoader, WholePass

CANARY = "picture_canary.json"

log = logging.getLogger("fires_exp.pipeline")


def make_sft(work: Workspace, thoughts: Artifact | None) -> Artifact:
    """The cold start's adapter; without thoughts (plan `none`) the response alone is learned."""
    config = work.config.sft
    examples = drawn_fraction(work.examples("train"), config.fraction, work.config.seed)
    validation = work.dataset.examples["val"] if config.validate_every_steps is not None else ()
    settings = asdict(config)
    del settings["checkpoint_every_steps"]
    depends_on = {
        **work.model_inputs(),
        "examples": work.identity((*examples, *validation), work.dataset),
        "thoughts": thoughts.key if thoughts else None,
        "sft": settings,
        "code": code_fingerprint("pipeline.stages.sft"),
    }

    def build(folder: Path) -> None:
        policy = work.policy([])
        fresh_adapter(policy, config, work.config.seed)
        bank = read_bank(thoughts.folder / BANK) if thoughts else {}
        learned, checked = (_with_thoughts(some, bank) if thoughts else some for some in (examples, validation))
        if not learned:
            raise StageError(f"no instance drawn by sft.fraction={config.fraction} has a thought; draw more, or mend the bank")
        encode = work.encode(policy.processor, work.dataset, (*learned, *checked))
        tokens = work.completion_ids(policy)

        def completion(example: SupportExample) -> Tensor:
            thought = bank[example.id].thought.text if bank else ""
            return tokens(render_completion(thought, example.reference_response, work.plan))

        def item(example: SupportExample) -> SftItem:
            return SftItem(prompt=encode(example), completion_ids=completion(example))

        plan = training_plan(config, len(learned), work.config.seed)
        module = SftModule(
            policy,
            config,
            total_updates=len(plan),
            seed=work.config.seed,
            validation=WholePass(len(checked), lambda index: item(checked[index])) if checked else None,
        )
        fit(
            module,
            StepLoader(plan, lambda index: item(learned[index]), ahead=work.config.trainer.load_ahead),
            folder,
            work.config,
            stage="sft",
            run_folder=work.run_folder,
            checkpoint_every_steps=config.checkpoint_every_steps,
        )
        if collectives.is_first():
            canary = picture_canary(policy, learned, encode, completion)
            write_atomically(folder / CANARY, json.dumps(canary) + "\n")

    return work.make("sft", depends_on, build, together=True)


def _with_thoughts(examples: tuple[SupportExample, ...], bank: Mapping[str, BankedThought]) -> tuple[SupportExample, ...]:
    """Those that the teacher has a thought for."""
    found = tuple(example for example in examples if example.id in bank)
    if len(found) < len(examples):
        log.info("%d of %d instances have a thought; the others are left out", len(found), len(examples))
    return found


def drawn_fraction(examples: tuple[SupportExample, ...], fraction: float, seed: int) -> tuple[SupportExample, ...]:
    """A seeded draw of `fraction` of the instances, at least one, in the corpus's order; a larger draw holds the smaller."""
    order = list(range(len(examples)))
    random.Random(f"{seed}/fraction").shuffle(order)  # noqa: S311
    return tuple(examples[index] for index in sorted(order[: max(1, round(fraction * len(examples)))]))
