"""Keys of the model: backbone, prompt, thinking, adapter and decoding."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from fires_exp.config.field import Group, setting


class BackboneSource(StrEnum):
    hub = "hub"
    embedded = "embedded"
    tiny = "tiny"


class Dtype(StrEnum):
    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


class Attention(StrEnum):
    auto = "auto"
    sdpa = "sdpa"
    eager = "eager"
    flash_attention_2 = "flash_attention_2"


class PlanKind(StrEnum):
    flexible = "flexible"
    fixed = "fixed"
    free = "free"
    none = "none"


class AspectName(StrEnum):
    """In the order in which a thought names them."""

    visual_scene = "visual_scene"
    emotion = "emotion"
    situation = "situation"
    response_strategy = "response_strategy"


class Engine(StrEnum):
    native = "native"
    transformers = "transformers"
    vllm = "vllm"


@dataclass(kw_only=True)
class BackboneConfig(Group):
    name: str = setting("name in reports")
    source: BackboneSource = setting(
        "hub: from path; embedded: SmolLM2 put into the Qwen2.5-VL class, built once into the cache; tiny: random, for tests"
    )
    path: str | None = setting("source=hub: a hub id or a local folder")
    revision: str | None = setting("source=hub: the commit of a hub id; unused for a folder")
    dtype: Dtype = setting(
        "auto (bfloat16 on a GPU and on CPUs with native bfloat16 matrix units, else float32), float32 or bfloat16"
    )
    attention: Attention = setting(
        "auto (flash_attention_2 where it is installed and a GPU is used, else sdpa), sdpa, eager or flash_attention_2"
    )

    def problems(self, key: str) -> Iterator[str]:
        if self.source == BackboneSource.hub and not self.path:
            yield f"{key}.source=hub needs {key}.path=<hub id or folder>"


@dataclass(kw_only=True)
class AspectsConfig(Group):
    name: str = setting("name in reports")
    plan: PlanKind = setting(
        "flexible: helpful aspects only; fixed: every aspect always; free: thinking without named aspects; none: no thinking"
    )
    aspects: list[AspectName] = setting("the aspects that a thought may name, in this order")

    def problems(self, key: str) -> Iterator[str]:
        written = f"{key}.aspects=[{', '.join(self.aspects)}]"
        # a thought names its aspects in this order, so a prompt that lists another would contradict it
        if self.aspects != [aspect for aspect in AspectName if aspect in self.aspects]:
            yield f"{written}: write each aspect once, in the order {', '.join(AspectName)}"
        if bool(self.aspects) != (self.plan in (PlanKind.flexible, PlanKind.fixed)):
            yield f"{key}.plan={self.plan} with {written}: flexible and fixed need aspects, free and none take []"


@dataclass(kw_only=True)
class PromptConfig(Group):
    max_tokens: int = setting(
        "longest prompt, frames included; the oldest whole turns are dropped until it fits, and counted", ge=64
    )


@dataclass(kw_only=True)
class LoraConfig(Group):
    rank: int = setting("LoRA rank", ge=1)
    alpha: int = setting("LoRA alpha; the update is scaled by alpha / rank", ge=1)
    dropout: float = setting("LoRA dropout", ge=0, lt=1)
    target_modules: str = setting("regular expression over the names of the modules that get an adapter")
    train_vision: bool = setting(
        "also train all weights of the vision tower (the embedded backbone needs it: its tower starts untrained)"
    )

    def problems(self, key: str) -> Iterator[str]:
        try:
            re.compile(self.target_modules)
        except re.error as error:
            yield f"{key}.target_modules={self.target_modules}: not a regular expression ({error})"


@dataclass(kw_only=True)
class SamplingConfig(Group):
    temperature: float = setting(
        "logits are divided by this before sampling, and in scoring too; 0 is greedy (prediction only)", ge=0
    )
    top_p: float = setting("sample from the smallest set of tokens with this much probability", gt=0, le=1)
    max_new_tokens: int = setting("longest completion, in tokens; a longer one is cut off and marked truncated", ge=1)
    engine: Engine = setting(
        "native: a prompt is encoded once for its completions; transformers: the library's own decoding, for comparison; vllm: "
        "an extra, on a GPU"
    )
