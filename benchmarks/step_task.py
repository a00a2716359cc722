"""The input of both sides of the step benchmark: the same weights, adapter, prompts and images, generated from a seed.

Numbers that the benchmark does not set come from `conf/`: the adapter, beta and the clipping of Table 6.
"""

from __future__ import annotations

import json
import os
import random
import zlib
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import torch
from hydra import compose, initialize_config_module
from PIL import Image
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from fires_exp.config.data import BadRowPolicy
from fires_exp.config.load import load_config, register_schema
from fires_exp.config.model import Attention, BackboneConfig, BackboneSource, Dtype, PlanKind, SamplingConfig
from fires_exp.config.root import Config
from fires_exp.config.training import GrpoConfig, HealthConfig, Schedule
from fires_exp.data.readers.row_errors import RowProblems
from fires_exp.data.readers.sample import read_sample
from fires_exp.data.records import Role, SupportExample, Utterance
from fires_exp.policy.backbone import build_policy, build_processor, choose_attention, choose_dtype
from fires_exp.policy.policy import Policy
from fires_exp.prompts.processor import ImageChatProcessor
from fires_exp.prompts.templates import chat_messages
from fires_exp.thinking.aspects import ThinkingPlan

PLAN = ThinkingPlan(kind=PlanKind.free, aspects=())
BACKBONES = ("smollm2_vl", "tiny", "qwen3b_random", "qwen7b_random")
WORDS_PER_TURN = 24

# Qwen2.5-VL's published shapes; the weights are random, which costs the same
_QWEN_VISION = {
    "depth": 32, "hidden_size": 1280, "num_heads": 16, "intermediate_size": 3420, "fullatt_block_indexes": [7, 15, 23, 31],
    "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112,
}  # fmt: skip
_QWEN_TEXT: dict[str, dict[str, Any]] = {
    "qwen3b_random": {
        "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
        "num_key_value_heads": 2, "vocab_size": 151_936,
    },
    "qwen7b_random": {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "vocab_size": 152_064,
    },
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Size of a prompt including images; the text is the longest that fits."""

    prompt_tokens: int
    frames: int
    frame_width: int
    frame_height: int


SHAPES = {
    "text": Shape(prompt_tokens=512, frames=0, frame_width=224, frame_height=224),
    "frames": Shape(prompt_tokens=1_500, frames=16, frame_width=224, frame_height=224),
    "long": Shape(prompt_tokens=4_000, frames=16, frame_width=448, frame_height=336),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class StepTask:
    """One measurement. `rounds` includes the warm-up; each round has its own prompts, the same on both sides."""

    shape: Shape
    backbone: str
    device: str
    dtype: str
    prompts: int
    generations: int
    new_tokens: int
    rounds: int
    checkpointing: bool
    threads: int
    seed: int

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> StepTask:
        fields = json.loads(text)
        return cls(**{**fields, "shape": Shape(**fields["shape"])})

    @property
    def grpo(self) -> GrpoConfig:
        """Table 6 with this task's sizes; a micro-batch is a group, on both sides."""
        config = _paper().grpo
        return replace(
            config,
            num_generations=self.generations,  # a group of one has no gradient, but the sweep measures its cost
            batch_size=self.prompts,
            micro_batch_size=self.generations,
            gradient_checkpointing=self.checkpointing,
            log_completions_every_steps=self.rounds,
            optimizer=replace(config.optimizer, warmup_ratio=0.0, schedule=Schedule.constant),
        )

    @property
    def health(self) -> HealthConfig:
        return _paper().health

    @property
    def sampling(self) -> SamplingConfig:
        return replace(_paper().sampling, max_new_tokens=self.new_tokens)


@cache
def _paper() -> Config:
    register_schema()
    with initialize_config_module("fires_exp.conf", version_base="1.3"):
        return load_config(compose("config", overrides=["scale=paper"]))


def build_backbone(task: StepTask) -> Policy:
    """The bare backbone on its device, the same weights in every process."""
    device = torch.device(task.device)
    cache = Path(os.environ.get("FIRES_EXP_CACHE", Path.home() / ".cache" / "fires_exp"))
    source = {"smollm2_vl": BackboneSource.embedded, "tiny": BackboneSource.tiny}.get(task.backbone)
    config = BackboneConfig(
        name=task.backbone,
        source=source or BackboneSource.tiny,
        path=None,
        revision=None,
        dtype=Dtype(task.dtype),
        attention=Attention.auto,
    )
    if source is not None:
        return build_policy(config, cache, device)
    processor = build_processor(config, cache)
    model = _random_qwen(task, processor, choose_dtype(Dtype(task.dtype), device), choose_attention(Attention.auto, device))
    policy = Policy(model, processor, task.backbone)
    policy.to(device)
    return policy.eval()


def _random_qwen(task: StepTask, processor: ImageChatProcessor, dtype: torch.dtype, attention: str) -> Any:
    """A model with random weights, created on the device: creating 7B on the CPU takes minutes."""
    tokenizer = processor.tokenizer
    text = _QWEN_TEXT[task.backbone]
    shared = {"tie_word_embeddings": task.backbone == "qwen3b_random", "bos_token_id": None}
    shared |= {"eos_token_id": tokenizer.eos_token_id}
    rope = {"rope_type": "default", "rope_theta": 1_000_000.0, "mrope_section": [16, 24, 24]}
    names = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start", "vision_end": "vision_end"}
    config = Qwen2_5_VLConfig(
        text_config={
            **text, **shared, "rms_norm_eps": 1e-6, "max_position_embeddings": 128_000, "rope_parameters": rope,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={**_QWEN_VISION, "out_hidden_size": text["hidden_size"]},
        **{f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>") for name, token in names.items()},
        **shared,
    )  # fmt: skip
    torch.manual_seed(task.seed)
    with torch.device(task.device):
        model = Qwen2_5_VLForConditionalGeneration._from_config(config, dtype=dtype, attn_implementation=attention)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model.requires_grad_(False).eval()


@dataclass(frozen=True, kw_only=True, slots=True)
class RawPrompt:
    """An example before processing; `frames` has one list per history turn."""

    example: SupportExample
    frames: list[list[Image.Image]]

    @property
    def messages(self) -> list[dict[str, Any]]:
        return chat_messages(self.example.history, [len(turn) for turn in self.frames], PLAN)


def prompts_of_round(task: StepTask, processor: ImageChatProcessor, round_index: int) -> list[RawPrompt]:
    """The prompts of a round: words of the sample corpus, and noise images, distributed over the turns."""
    return [_prompt(task, processor, f"{round_index}-{index}") for index in range(task.prompts)]


def _prompt(task: StepTask, processor: ImageChatProcessor, name: str) -> RawPrompt:
    chance = random.Random(f"{task.seed}/{name}")
    corpus = read_sample(video_pattern="{season}{episode}.mp4", problems=RowProblems(BadRowPolicy.error))
    words = [word for conversation in corpus for turn in conversation.turns for word in turn.text.split()]
    start = chance.randrange(len(words))
    words = [words[(start + index) % len(words)] for index in range(task.shape.prompt_tokens)]
    fewest, most = 1, len(words)
    while fewest < most:  # the most words that fit
        middle = (fewest + most + 1) // 2
        fits = _length(_raw(task, words[:middle], name, []), task, processor) <= task.shape.prompt_tokens
        fewest, most = (middle, most) if fits else (fewest, middle - 1)
    noise = numpy.random.default_rng(zlib.crc32(f"{task.seed}/{name}".encode()))
    shape = (task.shape.frame_height, task.shape.frame_width, 3)
    images = [Image.fromarray(noise.integers(0, 256, shape, dtype=numpy.uint8)) for _ in range(task.shape.frames)]
    return _raw(task, words[:fewest], name, images)


def _raw(task: StepTask, words: list[str], name: str, images: list[Image.Image]) -> RawPrompt:
    texts = [" ".join(words[start : start + WORDS_PER_TURN]) for start in range(0, len(words), WORDS_PER_TURN)]
    speakers: list[Role] = ["seeker" if (len(texts) - index) % 2 else "supporter" for index in range(len(texts))]
    history = tuple(Utterance(speaker=speaker, text=text) for speaker, text in zip(speakers, texts, strict=True))
    target = Utterance(speaker="supporter", text="Tell me more.")
    example = SupportExample(id=name, split="train", history=history, target=target, source=f"benchmark:{name}")
    return RawPrompt(example=example, frames=[images[index :: len(texts)] for index in range(len(texts))])


def _length(raw: RawPrompt, task: StepTask, processor: ImageChatProcessor) -> int:
    """Tokens of a prompt with the task's images: each is its merged patches between two markers."""
    text = processor.apply_chat_template(raw.messages, tokenize=False, add_generation_prompt=True)
    image_processor = processor.image_processor
    patches: int = image_processor.get_number_of_image_patches(task.shape.frame_height, task.shape.frame_width, {})
    tokens: int = len(processor.tokenizer(text).input_ids)
    return tokens + task.shape.frames * (patches // int(image_processor.merge_size) ** 2 + 2)


def reward_of(text: str) -> float:
    """A reward in [0, 1) that is free to compute and has no ties."""
    return zlib.crc32(text.encode()) / 2**32


def weights_fingerprint(model: torch.nn.Module) -> str:
    """A fingerprint of all weights including the adapter, which must be equal on both sides."""
    state = 0
    for name, parameter in sorted(model.named_parameters()):
        total = parameter.detach().sum(dtype=torch.float64), parameter.detach().abs().sum(dtype=torch.float64)
        state = zlib.crc32(f"{name} {tuple(parameter.shape)} {float(total[0]):.9e} {float(total[1]):.9e}".encode(), state)
    return f"{state:08x}"
