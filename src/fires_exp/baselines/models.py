"""The models that baselines are trained on: the backbone with an adapter, or all weights of a sequence-to-sequence model."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from fires_exp.baselines.interface import TrainedBaseline
from fires_exp.config.baselines import Seq2SeqConfig
from fires_exp.config.scoring import PredictConfig
from fires_exp.config.training import SftConfig
from fires_exp.data.records import SupportExample
from fires_exp.distributed import collectives
from fires_exp.policy.adapters import enable_gradient_checkpointing, parameters_hash
from fires_exp.policy.factory import PolicyFactory
from fires_exp.policy.policy import Policy
from fires_exp.policy.sampling import sample_completions, stream_seed
from fires_exp.policy.seq2seq import build_seq2seq, check_seq2seq, load_seq2seq
from fires_exp.prompts.processor import EncodedPrompt, encode_chat
from fires_exp.prompts.templates import SPEAKER_NAMES
from fires_exp.prompts.truncation import fit_history
from fires_exp.services.messages import ChatMessage
from fires_exp.storage.files import write_atomically
from fires_exp.training.checkpoints import clear_checkpoints
from fires_exp.training.fit import ADAPTER, FACTS, TrainingLoop, fresh_adapter, training_plan
from fires_exp.training.seq2seq import Seq2SeqModule, TextPair
from fires_exp.training.sft import SftItem, SftModule
from fires_exp.training.step_loader import FullPassLoader, StepLoader

MODEL = "model"  # folder of a sequence-to-sequence model
STAGE = "train_baseline"

Item = TypeVar("Item")

Examples = Sequence[SupportExample]
Hints = Mapping[str, Sequence[str]]  # by instance: one text per history turn, empty for none


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenText:
    """The text that a model wrote for an instance, before parsing; `finish_reason` as in a completion."""

    text: str
    finish_reason: str


Writer = Callable[[Examples], list[WrittenText]]  # one text per instance of a batch


@dataclass(frozen=True, kw_only=True)
class TrainableModel(ABC):
    """Trains a baseline and generates its texts."""

    baseline: TrainedBaseline
    sft: SftConfig
    predict: PredictConfig
    seed: int

    @abstractmethod
    def key_inputs(self) -> dict[str, Any]:
        """The settings that determine the model and what it reads, for the key of a stage."""

    @abstractmethod
    def check(self) -> None:
        """Raises an error for a model that cannot be loaded, before any stage runs."""

    @abstractmethod
    def train(self, folder: Path, examples: Examples, validation: Examples, hints: Hints, loop: TrainingLoop) -> None:
        """Train to the end, from the folder's last checkpoint if there is one, and save the weights in `folder`."""

    @abstractmethod
    def writer(self, folder: Path, examples: Examples, hints: Hints) -> Writer:
        """Load the weights that `train` saved, to write texts for batches of `examples`."""

    def _seed(self, *parts: object) -> int:
        return stream_seed(self.seed, "predict", *parts)


@dataclass(frozen=True, kw_only=True)
class BackboneBaseline(TrainableModel):
    """The backbone with an adapter. It reads text alone: the content of frames is in the hints."""

    policies: PolicyFactory

    def key_inputs(self) -> dict[str, Any]:
        return {"backbone": asdict(self.policies.backbone), "prompt": asdict(self.policies.prompt)}

    def check(self) -> None:
        """The backbone has been checked before, as that of any run."""

    def train(self, folder: Path, examples: Examples, validation: Examples, hints: Hints, loop: TrainingLoop) -> None:
        policy = self.policies.build([])
        fresh_adapter(policy, self.sft, self.seed)
        completion_ids = self.policies.prompt_encoder(policy.processor).completion_ids
        self._check_fits(policy, (*examples, *validation), hints)

        def item(example: SupportExample) -> SftItem:
            prompt = self._prompt(policy, example, hints)
            return SftItem(prompt=prompt, completion_ids=completion_ids(self.baseline.target_text(example)))

        plan = training_plan(self.sft, len(examples), self.seed)
        loop.fit(
            SftModule(policy, self.sft, total_updates=len(plan), seed=self.seed, validation=_validation_pass(validation, item)),
            StepLoader(plan, lambda index: item(examples[index]), prefetch=loop.trainer.prefetch_steps),
            folder,
            stage=STAGE,
            checkpoint_every_steps=self.sft.checkpoint_every_steps,
        )

    def writer(self, folder: Path, examples: Examples, hints: Hints) -> Writer:
        policy = self.policies.build([folder / ADAPTER])
        self._check_fits(policy, examples, hints)

        def write(batch: Examples) -> list[WrittenText]:
            prompts = [self._prompt(policy, example, hints) for example in batch]
            seeds = [[self._seed(example.id)] for example in batch]
            groups = sample_completions(policy, prompts, self.predict.decoding, seeds)
            return [WrittenText(text=completion.text, finish_reason=completion.finish_reason) for (completion,) in groups]

        return write

    def _prompt(self, policy: Policy, example: SupportExample, hints: Hints) -> EncodedPrompt:
        """Instruction and history, without the oldest turns that exceed `prompt.max_tokens`."""

        def render(dropped: int) -> tuple[EncodedPrompt, int]:
            prompt = self._encode(policy, example, hints, dropped)
            return prompt, len(prompt.prompt_ids)

        limit = self.policies.prompt.max_tokens
        _, prompt = fit_history(render, example, limit=limit, limit_key="prompt.max_tokens", lower_keys=())
        return prompt

    def _encode(self, policy: Policy, example: SupportExample, hints: Hints, dropped: int) -> EncodedPrompt:
        lines = [
            f"{SPEAKER_NAMES[turn.speaker]}: {line}"
            for turn, line in zip(example.history, self.baseline.render_history(example, hints[example.id]), strict=True)
        ]
        messages = (
            ChatMessage(role="system", parts=(self.baseline.instruction,)),
            ChatMessage(role="user", parts=("\n".join(lines[dropped:]),)),
        )
        return replace(encode_chat(policy.processor, example, messages), dropped_turns=dropped)

    def _check_fits(self, policy: Policy, examples: Examples, hints: Hints) -> None:
        """Raises `DataError` if a last turn alone is too long: before training, not in its middle."""
        for example in examples:
            last = len(example.history) - 1
            if len(self._encode(policy, example, hints, last).prompt_ids) > self.policies.prompt.max_tokens:
                self._prompt(policy, example, hints)


@dataclass(frozen=True, kw_only=True)
class Seq2SeqBaseline(TrainableModel):
    """All weights of a sequence-to-sequence model, saved as a folder that transformers can load. `cache` is the folder for built
    models."""

    seq2seq: Seq2SeqConfig
    cache: Path
    device: torch.device

    def key_inputs(self) -> dict[str, Any]:
        return {"seq2seq": asdict(self.seq2seq)}

    def check(self) -> None:
        check_seq2seq(self.seq2seq, self.cache)

    def train(self, folder: Path, examples: Examples, validation: Examples, hints: Hints, loop: TrainingLoop) -> None:
        special_tokens = self.baseline.special_tokens(examples)
        model = build_seq2seq(self.seq2seq, self.cache, special_tokens, self.device, self.seed)
        if self.sft.gradient_checkpointing:
            enable_gradient_checkpointing(model)

        def pair(example: SupportExample) -> TextPair:
            source = model.encoder_input(self.baseline.render_history(example, hints[example.id]))
            target_ids = model.target_ids(self.baseline.target_text(example))
            return TextPair(example_id=example.id, source=source, target_ids=target_ids)

        plan = training_plan(self.sft, len(examples), self.seed)
        loop.take_steps(
            Seq2SeqModule(
                model, self.sft, total_updates=len(plan), seed=self.seed, validation=_validation_pass(validation, pair)
            ),
            StepLoader(plan, lambda index: pair(examples[index]), prefetch=loop.trainer.prefetch_steps),
            folder,
            stage=STAGE,
            checkpoint_every_steps=self.sft.checkpoint_every_steps,
        )
        collectives.check_same(f"the weights that {STAGE} trained", parameters_hash(model, trainable=True)[:12])
        if not collectives.is_main():
            return
        model.save(folder / MODEL)
        trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
        write_atomically(folder / FACTS, json.dumps({"steps": len(plan), "trainable_parameters": trained}, indent=2) + "\n")
        clear_checkpoints(folder)

    def writer(self, folder: Path, examples: Examples, hints: Hints) -> Writer:
        model = load_seq2seq(folder / MODEL, self.seq2seq, self.device)

        def write(batch: Examples) -> list[WrittenText]:
            sources = [model.encoder_input(self.baseline.render_history(example, hints[example.id])) for example in batch]
            texts = model.generate(sources, self.predict.decoding, self._seed(batch[0].id))
            return [WrittenText(text=text, finish_reason=finish_reason) for text, finish_reason in texts]

        return write


def _validation_pass(examples: Examples, item: Callable[[SupportExample], Item]) -> FullPassLoader[Item] | None:
    return FullPassLoader(len(examples), lambda index: item(examples[index])) if examples else None
