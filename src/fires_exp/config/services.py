"""Keys of the chat models behind OpenAI-compatible services: the settings that all share, the teacher and the judge."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from fires_exp.config.field import Group, setting


class MaxTokensKey(StrEnum):
    max_tokens = "max_tokens"
    max_completion_tokens = "max_completion_tokens"


class ImageDetail(StrEnum):
    auto = "auto"
    low = "low"
    high = "high"


class TeacherName(StrEnum):
    rules = "rules"
    openai = "openai"
    local = "local"


class TeacherSplit(StrEnum):
    train = "train"
    val = "val"


@dataclass(kw_only=True)
class ServiceConfig(Group):
    """A chat model behind an OpenAI-compatible service; `GROUP` is the dotted key of its group, for messages at run time."""

    GROUP: ClassVar[str]

    base_url: str | None = setting(
        "address of the service, up to and without /chat/completions, e.g. https://api.openai.com/v1",
        pattern=r"https?://[^\s@?#]+",
        hint="write http(s)://host/path without user, password or query; keys belong into api_key_env",
        secret=True,
    )
    model: str | None = setting("the model's name at the service")
    api_key_env: str | None = setting(
        "environment variable that holds the key; null sends no key, as local services expect",
        pattern=r"[A-Z_][A-Z0-9_]*",
        hint="write the name of an environment variable, in capitals, never the key itself",
        secret=True,
    )
    temperature: float | None = setting("null leaves it out of the request, as reasoning models require", ge=0)
    max_tokens: int = setting("longest answer, in tokens", ge=1)
    max_tokens_key: MaxTokensKey = setting("the service's name for max_tokens: max_tokens or max_completion_tokens")
    image_detail: ImageDetail = setting("resolution at which the service reads a frame: auto, low or high")
    frame_tokens: int = setting("assumed cost of a frame in tokens, for estimates and for the budget", ge=0)
    requests_per_minute: float = setting("largest number of requests a minute, evenly spaced", gt=0)
    max_concurrent_requests: int = setting(
        "largest number of requests at the same time; teacher=local: instances in a batch", ge=1
    )
    timeout_seconds: float = setting("deadline for a whole answer", gt=0)
    retries: int = setting("how often a request is sent again after 429, 5xx, a time-out or a broken answer", ge=0)
    backoff_seconds: float = setting(
        "wait before the first retry; doubles with each retry, with jitter. Retry-After takes precedence", gt=0
    )
    max_wait_seconds: float = setting(
        "longest wait between two tries; a service that asks for more counts as not answering", gt=0
    )
    give_up_after: int = setting("this many requests in a row without an answer stop the run", ge=1)
    max_requests: int | None = setting(
        "budget: largest number of requests, those of earlier runs for the same stage included; null has no limit", ge=1
    )
    max_cost: float | None = setting("budget in the currency of the prices, earlier runs included; null has no limit", ge=0)
    price_prompt: float | None = setting("price of a million prompt tokens; null is unknown", ge=0)
    price_completion: float | None = setting("price of a million answer tokens; null is unknown", ge=0)
    dry_run: bool = setting("print the number and the cost of the requests, tokens and frames of a run; send nothing")
    batch_requests: str | None = setting("write the requests into this file, for a batch service, and send nothing")
    batch_results: str | None = setting("read answers from this file of a batch service first")

    def problems(self, key: str) -> Iterator[str]:
        if self.max_cost is not None and None in (self.price_prompt, self.price_completion):
            yield f"{key}.max_cost={self.max_cost}: a budget needs {key}.price_prompt and {key}.price_completion"

    @property
    def sends(self) -> bool:
        """Whether a run sends requests, rather than counting them or writing them into a file."""
        return not self.dry_run and self.batch_requests is None


@dataclass(kw_only=True)
class TeacherConfig(ServiceConfig):
    GROUP: ClassVar[str] = "teacher"

    name: TeacherName = setting(
        "rules: thoughts by rules from the corpus's own labels and text, no model; openai: an OpenAI-compatible service; local: "
        "the backbone"
    )
    splits: list[TeacherSplit] = setting("the splits that get thoughts: train, val")
    attempts: int = setting(
        "answers requested for an instance, each with the error of the previous one; then the instance is set aside", ge=1
    )
    max_leaked_words: int = setting("longest run of words that a thought may share with the reference response", ge=1)
    max_leaked_share: float = setting(
        "largest share of the reference response that a line of a thought may contain, in order", gt=0, le=1
    )
    max_prompt_tokens: int = setting(
        "teacher=local: longest prompt, demonstrations included; oldest turns are dropped until it fits", ge=1
    )

    def problems(self, key: str) -> Iterator[str]:
        yield from ServiceConfig.problems(self, key)
        if TeacherSplit.train not in self.splits:
            yield f"{key}.splits=[{', '.join(self.splits)}]: the cold start learns from train; add it"
        if self.name == TeacherName.openai and None in (self.base_url, self.model):
            yield f"{key}=openai needs {key}.base_url=<service> and {key}.model=<model>"
        if self.name != TeacherName.openai and not (self.sends and self.batch_results is None):
            yield f"{key}={self.name} sends nothing: dry_run, batch_requests and batch_results need {key}=openai"


@dataclass(kw_only=True)
class JudgeConfig(ServiceConfig):
    GROUP: ClassVar[str] = "reward.judge"

    attempts: int = setting("answers requested for a verdict; after this many without one the run stops", ge=1)

    def problems(self, key: str) -> Iterator[str]:
        yield from ServiceConfig.problems(self, key)
        if self.batch_requests is not None or self.batch_results is not None:
            yield (
                f"{key}.batch_requests and batch_results: completions are judged while they are sampled, which no batch service "
                "can do; write null"
            )
