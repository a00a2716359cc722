"""Keys of training: optimizer, both stages, health signs, processes and logging."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from fires_exp.config.field import Group, setting
from fires_exp.config.model import LoraConfig


class Schedule(StrEnum):
    cosine = "cosine"
    linear = "linear"
    constant = "constant"


class AdvantageStd(StrEnum):
    population = "population"
    sample = "sample"
    none = "none"


class RatioLevel(StrEnum):
    token = "token"
    sequence = "sequence"


class Aggregation(StrEnum):
    sequence_mean = "sequence_mean"
    token_mean = "token_mean"
    constant = "constant"


class ScoringEngine(StrEnum):
    native = "native"
    transformers = "transformers"


class Strategy(StrEnum):
    single = "single"
    ddp = "ddp"
    zero2 = "zero2"


class Accelerator(StrEnum):
    cpu = "cpu"
    gpu = "gpu"
    auto = "auto"


class LoggerName(StrEnum):
    csv = "csv"
    tensorboard = "tensorboard"
    wandb = "wandb"


class WandbMode(StrEnum):
    offline = "offline"
    online = "online"


@dataclass(kw_only=True)
class OptimizerConfig(Group):
    learning_rate: float = setting("peak learning rate of AdamW", gt=0)
    warmup_ratio: float = setting("share of all optimizer steps in which the rate rises linearly", ge=0, le=1)
    schedule: Schedule = setting("after the warm-up: cosine or linear decay to zero, or constant")
    weight_decay: float = setting("AdamW weight decay", ge=0)
    max_grad_norm: float = setting("gradients are scaled down to this norm", gt=0)


@dataclass(kw_only=True)
class SftConfig(Group):
    fraction: float = setting(
        "share of the train instances used for the cold start (paper, Figure 7), a seeded sample", gt=0, le=1
    )
    epochs: int = setting("passes over the data", ge=1)
    max_steps: int | None = setting("stop after this many optimizer steps; null runs all epochs", ge=1)
    batch_size: int = setting("instances an optimizer step", ge=1)
    micro_batch_size: int = setting("instances a forward pass; gradients are summed, weighted by tokens", ge=1)
    gradient_checkpointing: bool = setting("recompute activations in the backward pass to save memory")
    checkpoint_every_steps: int = setting("a killed run continues from the last multiple of this", ge=1)
    validate_every_steps: int | None = setting("loss on the val split every so many steps and at the end; null never", ge=1)
    lora: LoraConfig = setting("the adapter of the cold start; merged into the base afterwards")
    optimizer: OptimizerConfig = setting("AdamW and its schedule")


@dataclass(kw_only=True)
class GrpoConfig(Group):
    num_generations: int = setting("G, completions a prompt", ge=2, hint="a group needs at least two completions")
    beta: float = setting("weight of the KL divergence from the reference policy (Eq. 2)", ge=0)
    advantage_std: AdvantageStd = setting(
        "Eq. 1's std: population (divides by G), sample (by G-1), or none (subtract the mean only)"
    )
    ratio_level: RatioLevel = setting(
        "p of Eq. 3: token (each token's own ratio) or sequence (the completion's ratio, as Eq. 3 is printed)"
    )
    aggregation: Aggregation = setting(
        "how tokens are averaged: sequence_mean (in, then over completions), token_mean or constant (sum / max_new_tokens)"
    )
    clip_epsilon_low: float | None = setting("ratios below 1 - this are clipped; null does not clip", gt=0)
    clip_epsilon_high: float | None = setting("ratios above 1 + this are clipped; null does not clip", gt=0)
    updates_per_rollout: int = setting("optimizer steps on each batch of rollouts; 1 is on-policy", ge=1)
    epochs: int = setting("passes over the prompts", ge=1)
    max_steps: int | None = setting("stop after this many rollouts; null runs all epochs", ge=1)
    batch_size: int = setting("prompts a step (G times as many completions)", ge=1)
    micro_batch_size: int = setting(
        "completions a forward and backward pass, all of one prompt, which is encoded once for them", ge=1
    )
    gradient_checkpointing: bool = setting("recompute activations in the backward pass to save memory")
    scoring: ScoringEngine = setting(
        "native: a prompt and its completions in one pass; transformers: each with its prompt, by the library's model"
    )
    skip_tied_groups: bool = setting("with beta 0, no backward pass for a group whose rewards tie: its gradient is zero")
    overlap_rewards: bool = setting("compute a step's rewards in a thread while the reference scores its completions")
    checkpoint_every_steps: int = setting("a killed run continues from the last multiple of this", ge=1)
    log_completions_every_steps: int = setting(
        "write the step's completions with their rewards to completions.jsonl and the loggers every so many steps", ge=1
    )
    lora: LoraConfig = setting("the fresh adapter; without it, the model is the reference policy")
    optimizer: OptimizerConfig = setting("AdamW and its schedule")

    def problems(self, key: str) -> Iterator[str]:
        if (self.clip_epsilon_low is None) != (self.clip_epsilon_high is None):
            yield f"{key}.clip_epsilon_low and {key}.clip_epsilon_high: write both, or null for both"
        if self.lora.train_vision:
            yield f"{key}.lora.train_vision=true: the vision tower is trained in SFT only; write false"


@dataclass(kw_only=True)
class StopConfig(Group):
    """Thresholds by the names of `grpo.monitoring.health.Sign`."""

    patience_steps: int = setting("GRPO stops when a sign is past its threshold for this many steps in a row", ge=1)
    unknown_situation: float | None = setting(
        "stop where this share of completions has Situation: Unknown; null never", gt=0, le=1
    )
    repeated_in_group: float | None = setting(
        "stop where this share of responses occurs elsewhere in its group; null never", gt=0, le=1
    )
    repeated_in_step: float | None = setting(
        "stop where this share of responses occurs elsewhere in its step; null never", gt=0, le=1
    )
    one_response: float | None = setting(
        "stop where one response answers this share of the window's prompts; null never", gt=0, le=1
    )
    short_question: float | None = setting("stop where this share of responses is a short question; null never", gt=0, le=1)
    copied_history: float | None = setting("stop where this share of responses copies from its history; null never", gt=0, le=1)
    words_to_reference: float | None = setting(
        "stop where responses have this share of their references' words or less; null never", gt=0, le=1
    )
    words_to_start: float | None = setting(
        "stop where responses have this share of the first steps' words or less; null never", gt=0, le=1
    )


@dataclass(kw_only=True)
class HealthConfig(Group):
    name: str = setting("name in reports")
    window_steps: int = setting(
        "steps whose prompts are searched for one response to many prompts; also the number of first steps", ge=1
    )
    copied_words: int = setting(
        "a response copies when it contains this many words in a row of a turn of its history, or a whole turn", ge=1
    )
    short_question_words: int = setting(
        "a response of at most this many words that ends in a question mark is a short question", ge=1
    )
    stop: StopConfig = setting("when a run that shows a sign is stopped")


@dataclass(kw_only=True)
class TrainerConfig(Group):
    strategy: Strategy = setting(
        "single: one process; ddp: one a device, each with its share of a batch; zero2: the same with DeepSpeed"
    )
    accelerator: Accelerator = setting("cpu, gpu or auto, as in Lightning")
    devices: int = setting("number of devices a node; on a cpu, processes", ge=1)
    num_nodes: int = setting("number of nodes, see docs/distributed.md", ge=1)
    time_limit: str | None = setting(
        "stop before this time and continue later: [days-]hours:minutes:seconds since the start; null never",
        pattern=r"(\d+-)?\d+:[0-5]\d:[0-5]\d",
        hint="write [days-]hours:minutes:seconds, such as 00:55:00, or null",
    )
    prefetch_steps: int = setting("number of steps whose prompts are encoded in advance, in a thread", ge=0)
    keep_checkpoints: int = setting(
        "number of checkpoints kept for a stage; an older one is used where the newest is damaged", ge=1
    )
    deterministic: bool = setting("deterministic kernels, where a kernel has them")
    progress: bool = setting("show progress bars")
    enforce_resource_estimate: bool = setting(
        "refuse a run that by estimate needs more memory or disk than this machine has; false only warns"
    )

    @property
    def processes(self) -> int:
        """On all nodes together."""
        return self.devices * self.num_nodes

    def problems(self, key: str) -> Iterator[str]:
        if self.strategy == Strategy.single and self.processes != 1:
            yield (
                f"{key}.devices={self.devices} with {key}.num_nodes={self.num_nodes}: {key}.strategy=single is one process; "
                "choose trainer=ddp or trainer=zero2"
            )


@dataclass(kw_only=True)
class LoggerConfig(Group):
    name: LoggerName = setting("csv, tensorboard or wandb; metrics.jsonl is always written")
    wandb_mode: WandbMode = setting("offline, or online with WANDB_API_KEY in the environment")
    project: str = setting("W&B project")
    entity: str | None = setting("W&B user or team; null is your default")
    completions: int = setting(
        "number of completions of a step that W&B and TensorBoard show, with prompt, thought and rewards; 0 for none, where "
        "texts must not leave the machine (grpo.log_completions_every_steps sets the interval)",
        ge=0,
    )
    finish_seconds: float = setting(
        "wandb_mode=online: how long a stage waits at its end for the upload to W&B; `wandb sync` uploads the rest", gt=0
    )
