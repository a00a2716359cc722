"""What lies ahead of a run: for each stage that is not finished its steps, tokens, memory and disk; and whether they fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fires_exp.config.schema import Config, GrpoConfig, SftConfig
from fires_exp.data.dataset import Dataset
from fires_exp.data.records import SupportExample
from fires_exp.data.video.frames import FrameReader
from fires_exp.pipeline.preflight import resources
from fires_exp.pipeline.preflight.disk import cache_bytes, stage_bytes
from fires_exp.pipeline.preflight.memory import Memory, Setting, answering_memory, grpo_memory, sft_memory
from fires_exp.pipeline.preflight.model_dims import Shape, read_shape
from fires_exp.pipeline.preflight.survey import Pending, survey
from fires_exp.pipeline.preflight.token_lengths import Lengths, measured
from fires_exp.pipeline.stages.sft import drawn_fraction
from fires_exp.pipeline.stages.thoughts import BANK
from fires_exp.pipeline.workspace import Workspace
from fires_exp.policy.backbone import build_processor, choose_dtype
from fires_exp.prompts.processor import PromptEncoder
from fires_exp.thinking.bank import read_bank
from fires_exp.thinking.rule_teacher import thought_by_rules
from fires_exp.thinking.tags import render_completion
from fires_exp.training.checkpoints import checkpointed_steps

_MEMORY = {"sft": sft_memory, "grpo": grpo_memory, "predictions": answering_memory}


@dataclass(frozen=True, kw_only=True, slots=True)
class StageAhead:
    """A stage of the run. Of a finished one all counts are 0; `steps_done` are those of a checkpoint that it goes on from.

    Tokens are those of the steps that are left, of completions at most; `memory` is None where the backbone is not asked.
    """

    label: str
    stage: str
    finished: bool
    steps: int
    steps_done: int
    prompts: int
    prompt_tokens: int
    completion_tokens: int
    memory: Memory | None
    disk: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlook:
    """Bytes. `held` is what this process holds already; `free` what may still be taken, `free_gpu` of a GPU (None on a CPU), by
    `processes` on this machine together; `setting` is None where no stage asks the backbone."""

    stages: tuple[StageAhead, ...]
    setting: Setting | None
    prompts: dict[str, Lengths]
    held: int
    free: int
    free_gpu: int | None
    processes: int
    cache_disk: int
    free_disk: int

    @property
    def disk(self) -> int:
        """What all stages write, and what is kept in the cache."""
        return sum(one.disk for one in self.stages) + self.cache_disk

    def as_json(self) -> dict[str, Any]:
        """For `run.json`."""
        facts = asdict(self)
        del facts["setting"]
        for stage, facts_of_stage in zip(self.stages, facts["stages"], strict=True):
            if stage.memory is not None:
                memory = stage.memory
                facts_of_stage["memory"] |= {"peak": memory.peak, "gaps": memory.gaps, "host": memory.host}
        return facts


def look_ahead(work: Workspace) -> Outlook:
    """The outlook of a run. The backbone's weights are not loaded; one that is embedded is built if it is not there.

    Raises what the stages would raise for data that does not fit them.
    """
    pending = survey(work)
    asks = [one for one in pending if one.artifact.stage in _MEMORY and not one.artifact.reused]
    setting = _setting(work, read_shape(work.config.backbone, work.cache)) if asks else None
    lengths = _lengths(work, pending) if asks else {}
    frames = {work.dataset.name: work.dataset, work.test_dataset.name: work.test_dataset}
    return Outlook(
        stages=tuple(_ahead(work, one, setting, lengths) for one in pending),
        setting=setting,
        prompts=lengths,
        held=resources.held_memory(),
        free=resources.free_memory_here(),
        free_gpu=resources.free_gpu_memory(work.device) if work.device.type == "cuda" else None,
        processes=work.config.trainer.devices,
        cache_disk=cache_bytes(work.config, frames.values(), lengths) if asks else 0,
        free_disk=min(resources.free_disk(work.artifacts), resources.free_disk(work.cache)),
    )


def _setting(work: Workspace, shape: Shape) -> Setting:
    return Setting(
        shape=shape,
        element=choose_dtype(work.config.backbone.dtype, work.device).itemsize,
        on_gpu=work.device.type == "cuda",
        ranks=work.config.trainer.processes,
    )


def _lengths(work: Workspace, pending: Sequence[Pending]) -> dict[str, Lengths]:
    """Of `train` where it is trained on, and of `test` where it is answered."""
    processor = build_processor(work.config.backbone, work.cache)
    encoder = PromptEncoder(processor, work.plan, work.config.prompt.max_tokens)
    unfinished = {one.artifact.stage for one in pending if not one.artifact.reused}

    def of(dataset: Dataset, examples: Sequence[SupportExample], completion: Callable[[SupportExample], int]) -> Lengths:
        shows = work.config.frames.name != "none" and dataset.video_root is not None
        frames = FrameReader(work.config.frames, dataset.video_root, work.cache / "frames") if shows else None
        return measured(encoder, examples, frames, work.config.frames, completion)

    found = {}
    if {"sft", "grpo"} & unfinished:
        found["train"] = of(work.dataset, work.examples("train"), _learned_tokens(work, encoder, pending))
    if "predictions" in unfinished:
        most = work.config.predict.decoding.max_new_tokens
        found["test"] = of(work.test_dataset, work.test_examples, lambda example: most)
    return found


def _learned_tokens(work: Workspace, encoder: PromptEncoder, pending: Sequence[Pending]) -> Callable[[SupportExample], int]:
    """The length of what SFT learns for an instance; with a teacher that has not thought yet, the longest that it may say."""
    banks = [one.artifact for one in pending if one.artifact.stage == "thoughts" and one.artifact.reused]
    bank = read_bank(banks[0].folder / BANK) if banks else {}
    config = work.config

    def tokens(example: SupportExample) -> int:
        thought, more = "", 0
        if example.id in bank:
            thought = bank[example.id].thought.text
        elif work.plan.thinks and config.teacher.name == "annotations":
            thought = thought_by_rules(example, work.plan).text
        elif work.plan.thinks:
            more = config.teacher.max_tokens
        return more + len(encoder.completion_ids(render_completion(thought, example.reference_response, work.plan)))

    return tokens


def _ahead(work: Workspace, one: Pending, setting: Setting | None, lengths: dict[str, Lengths]) -> StageAhead:
    stage, config = one.artifact.stage, work.config
    steps = done = prompts = prompt_tokens = completion_tokens = disk = 0
    memory = None
    if not one.artifact.reused:
        if stage == "thoughts":
            prompts = len(work.examples("train")) + (len(work.dataset.examples["val"]) if "val" in config.teacher.splits else 0)
        elif stage in ("sft", "grpo"):
            training = config.sft if stage == "sft" else config.grpo
            examples = work.examples("train")
            count = len(drawn_fraction(examples, config.sft.fraction, config.seed)) if stage == "sft" else len(examples)
            done = checkpointed_steps(one.artifact.folder)
            steps, prompts = steps_left(training, count, done)
            completion = lengths["train"].mean_completion
            if stage == "grpo":
                completion = config.grpo.num_generations * config.sampling.max_new_tokens
            prompt_tokens, completion_tokens = round(prompts * lengths["train"].mean_prompt), round(prompts * completion)
        elif stage == "predictions":
            prompts = len(work.test_examples)
            steps = -(-prompts // config.predict.batch_size)
            prompt_tokens = round(prompts * lengths["test"].mean_prompt)
            completion_tokens = prompts * config.predict.decoding.max_new_tokens
        if stage in _MEMORY and setting is not None:
            memory = memory_of(stage, setting, config, lengths)
        disk = stage_bytes(
            stage, config, setting.shape if setting else None, prompts=prompts, completion_tokens=completion_tokens, steps=steps
        )
    return StageAhead(
        label=one.label,
        stage=stage,
        finished=one.artifact.reused,
        steps=steps,
        steps_done=done,
        prompts=prompts,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        memory=memory,
        disk=disk,
    )


def steps_left(training: SftConfig | GrpoConfig, count: int, done: int) -> tuple[int, int]:
    """Steps of `training_plan` after the first `done`, and how many instances they hold."""
    an_epoch = -(-count // training.batch_size)
    steps = min(training.epochs * an_epoch, training.max_steps or training.epochs * an_epoch)

    def instances(first_steps: int) -> int:
        epochs, rest = divmod(first_steps, an_epoch)
        return epochs * count + min(count, rest * training.batch_size)

    return steps - done, instances(steps) - instances(done)


def memory_of(stage: str, setting: Setting, config: Config, lengths: dict[str, Lengths]) -> Memory:
    """The estimate of a stage that asks the backbone."""
    return _MEMORY[stage](setting, config, lengths["test" if stage == "predictions" else "train"])
