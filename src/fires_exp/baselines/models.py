"""What a baseline is trained on: the backbone, by an adapter, or a sequence-to-sequence model, whole."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from fires_exp.baselines.interface import TrainedBaseline
from fires_exp.data.records import SupportExample
from fires_exp.distributed import collectives
from fires_exp.errors import DataError
from fires_exp.pipeline.workspace import Workspace
from fires_exp.policy.adapters import parameters_hash, save_activation_memory
from fires_exp.policy.policy import Policy
from fires_exp.policy.sampling import sample_completions, stream_seed
from fires_exp.policy.seq2seq import build_seq2seq, check_seq2seq, load_seq2seq
from fires_exp.prompts.processor import EncodedPrompt, encode_chat
from fires_exp.prompts.templates import SPEAKER_NAMES
from fires_exp.services.messages import ChatMessage
from fires_exp.storage.artifacts import write_atomically
from fires_exp.training.checkpoints import clear_checkpoints
from fires_exp.training.fit import ADAPTER, FACTS, fit, fresh_adapter, take_steps, training_plan
from fires_exp.training.seq2seq import Seq2SeqModule, TextPair
from fires_exp.training.sft import SftItem, SftModule
from fires_exp.training.step_loader import FullPassLoader, StepLoader

MODEL = "model"

Item = TypeVar("Item")

Examples = Sequence[SupportExample]
Hints = Mapping[str, Sequence[str]]
# texts with their finish reasons, one for each instance of a batch
Writer = Callable[[Examples], list[tuple[str, str]]]


class BaselineModel(ABC):
    """Trains a baseline and lets it write."""

    def __init__(self, work: Workspace, baseline: TrainedBaseline) -> None:
        self.work = work
        self.baseline = baseline

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """The leaves of the configuration that decide what is trained and what it reads."""

    @abstractmethod
    def check(self) -> None:
        """Raises what is wrong with the model, before anything is made."""

    @abstractmethod
    def train(self, folder: Path, examples: Examples, validation: Examples, hints: Hints) -> None:
        """Train to the end, or go on, and leave the weights in `folder`."""

    @abstractmethod
    def writer(self, folder: Path, hints: Hints) -> Writer:
        """What `train` left, ready to write."""

    def _seed(self, *parts: object) -> int:
        return stream_seed(self.work.config.seed, "predict", *parts)

    def _steps(self) -> dict[str, Any]:
        config = self.work.config.sft
        return {
            "stage": "sft",
            "run_folder": self.work.run_folder,
            "checkpoint_every_steps": config.checkpoint_every_steps,
        }


class BackboneBaseline(BaselineModel):
    """By text alone: what frames show stands in the hints."""

    def identity(self) -> dict[str, Any]:
        return {"backbone": asdict(self.work.config.backbone), "prompt": asdict(self.work.config.prompt)}

    def check(self) -> None:
        """A backbone is loaded for the hints too."""

    def train(self, folder: Path, examples: Examples, validation: Examples, hints: Hints) -> None:
        config, seed = self.work.config.sft, self.work.config.seed
        policy = self.work.policy([])
        fresh_adapter(policy, config, seed)
        tokens = self.work.completion_ids(policy)
        self._check_fits(policy, (*examples, *validation), hints)

        def item(example: SupportExample) -> SftItem:
            return SftItem(prompt=self._prompt(policy, example, hints), completion_ids=tokens(self.baseline.target(example)))

        plan = training_plan(config, len(examples), seed)
        fit(
            SftModule(policy, config, total_updates=len(plan), seed=seed, validation=_whole_pass(validation, item)),
            StepLoader(plan, lambda index: item(examples[index]), prefetch=self.work.config.trainer.load_ahead),
            folder,
            self.work.config,
            **self._steps(),
        )

    def writer(self, folder: Path, hints: Hints) -> Writer:
        policy = self.work.policy([folder / ADAPTER])
        self._check_fits(policy, self.work.test_examples, hints)

        def write(batch: Examples) -> list[tuple[str, str]]:
            prompts = [self._prompt(policy, example, hints) for example in batch]
            seeds = [[self._seed(example.id)] for example in batch]
            answers = sample_completions(policy, prompts, self.work.config.predict.decoding, seeds)
            return [(one.text, one.finish_reason) for (one,) in answers]

        return write

    def _prompt(self, policy: Policy, example: SupportExample, hints: Hints) -> EncodedPrompt:
        """Instruction and history; the oldest turns are dropped until it fits `prompt.max_tokens`."""
        limit = self.work.config.prompt.max_tokens
        whole = self._shown(policy, example, hints, 0)
        if len(whole.prompt_ids) <= limit:
            return whole

        def fits(dropped: int) -> bool:
            return len(self._shown(policy, example, hints, dropped).prompt_ids) <= limit

        last = len(example.history) - 1
        # a prompt without its oldest turn is shorter
        prompt = self._shown(policy, example, hints, bisect_left(range(last), True, lo=min(1, last), key=fits))
        if len(prompt.prompt_ids) > limit:
            raise DataError(
                f"{example.source or example.id}: the last turn of {example.id} alone makes {len(prompt.prompt_ids)} tokens, "
                f"more than prompt.max_tokens={limit}; raise it"
            )
        return prompt

    def _shown(self, policy: Policy, example: SupportExample, hints: Hints, dropped: int) -> EncodedPrompt:
        lines = [
            f"{SPEAKER_NAMES[turn.speaker]}: {line}"
            for turn, line in zip(example.history, self.baseline.lines(example, hints[example.id]), strict=True)
        ]
        messages = (
            ChatMessage(role="system", parts=(self.baseline.instruction,)),
            ChatMessage(role="user", parts=("\n".join(lines[dropped:]),)),
        )
        return replace(encode_chat(policy.processor, example, messages), dropped_turns=dropped)

    def _check_fits(self, policy: Policy, examples: Examples, hints: Hints) -> None:
        """The last turns alone, before a run and not in its middle."""
        for example in examples:
            last = len(example.history) - 1
            if len(self._shown(policy, example, hints, last).prompt_ids) > self.work.config.prompt.max_tokens:
                self._prompt(policy, example, hints)


class Seq2SeqBaseline(BaselineModel):
    """All weights of a sequence-to-sequence model; its folder is one that transformers reads."""

    def identity(self) -> dict[str, Any]:
        return {"seq2seq": asdict(self.work.config.seq2seq)}

    def check(self) -> None:
        check_seq2seq(self.work.config.seq2seq, self.work.cache)

    def train(self, folder: Path, examples: Examples, validation: Examples, hints: Hints) -> None:
        config, seed = self.work.config.sft, self.work.config.seed
        marks = self.baseline.marks(examples)
        seq2seq = build_seq2seq(self.work.config.seq2seq, self.work.cache, marks, self.work.device, seed)
        if config.gradient_checkpointing:
            save_activation_memory(seq2seq)

        def pair(example: SupportExample) -> TextPair:
            source = seq2seq.source(self.baseline.lines(example, hints[example.id]))
            return TextPair(example_id=example.id, source=source, target_ids=seq2seq.target_ids(self.baseline.target(example)))

        plan = training_plan(config, len(examples), seed)
        take_steps(
            Seq2SeqModule(seq2seq, config, total_updates=len(plan), seed=seed, validation=_whole_pass(validation, pair)),
            StepLoader(plan, lambda index: pair(examples[index]), prefetch=self.work.config.trainer.load_ahead),
            folder,
            self.work.config,
            **self._steps(),
        )
        collectives.check_same("the weights that sft trained", parameters_hash(seq2seq, trainable=True)[:12])
        if not collectives.is_main():
            return
        seq2seq.save(folder / MODEL)
        trained = sum(parameter.numel() for parameter in seq2seq.parameters() if parameter.requires_grad)
        write_atomically(folder / FACTS, json.dumps({"steps": len(plan), "trainable_parameters": trained}, indent=2) + "\n")
        clear_checkpoints(folder)

    def writer(self, folder: Path, hints: Hints) -> Writer:
        seq2seq = load_seq2seq(folder / MODEL, self.work.config.seq2seq, self.work.device)

        def write(batch: Examples) -> list[tuple[str, str]]:
            sources = [seq2seq.source(self.baseline.lines(example, hints[example.id])) for example in batch]
            return seq2seq.write(sources, self.work.config.predict.decoding, self._seed(batch[0].id))

        return write


def _whole_pass(examples: Examples, item: Callable[[SupportExample], Item]) -> FullPassLoader[Item] | None:
    return FullPassLoader(len(examples), lambda index: item(examples[index])) if examples else None
