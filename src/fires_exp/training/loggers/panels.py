"""The charts, tables and distributions of a run, shared by the report page, Weights & Biases and TensorBoard."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fires_exp.thinking.aspects import Aspect

EVALUATION = "evaluate"


@dataclass(frozen=True, kw_only=True, slots=True)
class ChartPlan:
    """A chart of curves over the steps of a stage. `metrics` maps logged names to labels in the chart; the curves named in
    `smooth` are drawn pale with a moving average."""

    stage: str
    section: str
    title: str
    metrics: Mapping[str, str]
    note: str = ""
    percent: bool = False
    smooth: tuple[str, ...] = ()


CHARTS = (
    ChartPlan(
        stage="sft",
        section="Cold start",
        title="Loss",
        metrics={"sft/loss": "train", "sft/val_loss": "val"},
        note="nats per completion token",
        smooth=("sft/loss",),
    ),
    ChartPlan(stage="sft", section="Cold start", title="Learning rate", metrics={"sft/learning_rate": "rate"}),
    ChartPlan(
        stage="sft", section="Cold start", title="Gradient norm", metrics={"sft/grad_norm": "norm"}, note="before clipping"
    ),
    ChartPlan(
        stage="grpo",
        section="Rewards",
        title="Reward",
        metrics={"reward/total": "total"},
        note="mean over the step's completions",
        smooth=("reward/total",),
    ),
    ChartPlan(
        stage="grpo",
        section="Rewards",
        title="Reward by part",
        metrics={
            "reward/format": "format",
            "reward/consistency": "consistency",
            "reward/support_skill": "skill",
            "reward/judge": "judge",
        },
        note="unweighted",
    ),
    ChartPlan(
        stage="grpo",
        section="Form",
        title="Form of completions",
        metrics={"rollout/well_formed_share": "well-formed", "rollout/truncated_share": "truncated"},
        note="% of completions",
        percent=True,
    ),
    ChartPlan(
        stage="grpo",
        section="Rewards",
        title="Tied groups",
        metrics={"rollout/tied_group_share": "tied"},
        note="% of groups whose rewards are all equal and give no learning signal",
        percent=True,
    ),
    ChartPlan(
        stage="grpo",
        section="Health",
        title="Repeated responses",
        metrics={
            "health/one_response": "one response",
            "health/repeated_in_step": "in the step",
            "health/repeated_in_group": "in the group",
        },
        note="% of prompts that share the most frequent response; % of completions whose response occurs at least twice",
        percent=True,
    ),
    ChartPlan(
        stage="grpo",
        section="Health",
        title="Low-effort responses",
        metrics={
            "health/unknown_situation": "Unknown",
            "health/short_question": "short question",
            "health/copied_history": "copied",
        },
        note="% of completions: Situation: Unknown, a short question, words of the history; a rise is a sign of reward hacking",
        percent=True,
    ),
    ChartPlan(
        stage="grpo",
        section="Health",
        title="Response length ratio",
        metrics={"health/words_to_reference": "to references", "health/words_to_start": "to first steps"},
        note="words of responses, relative to references and to the first steps; a fall is a sign of reward hacking",
    ),
    ChartPlan(stage="grpo", section="Policy", title="KL from the reference", metrics={"grpo/kl": "KL"}, note="nats per token"),
    ChartPlan(
        stage="grpo",
        section="Policy",
        title="Entropy",
        metrics={"grpo/entropy": "entropy"},
        note="nats per token; a collapse is a warning",
    ),
    ChartPlan(
        stage="grpo",
        section="Form",
        title="Completion length",
        metrics={"rollout/completion_tokens_mean": "mean"},
        note="tokens, mean over the step",
    ),
    ChartPlan(
        stage="grpo",
        section="Policy",
        title="Clipped tokens",
        metrics={"grpo/clip_share": "clipped"},
        note="% of tokens; zero by construction if each rollout is used once",
        percent=True,
    ),
    ChartPlan(stage="grpo", section="Policy", title="Gradient norm", metrics={"grpo/grad_norm": "norm"}, note="before clipping"),
    ChartPlan(
        stage="grpo",
        section="Aspects",
        title="Aspects in sampled thoughts",
        metrics={
            "aspect/visual_scene": "scene",
            "aspect/emotion": "emotion",
            "aspect/situation": "situation",
            "aspect/response_strategy": "strategy",
        },
        note="% of well-formed completions that contain the aspect",
        percent=True,
    ),
)

# charts of dashboards that the report page omits
MORE_CHARTS = (
    ChartPlan(stage="sft", section="Cold start", title="Target tokens", metrics={"sft/completion_tokens": "per step"}),
    ChartPlan(
        stage="sft",
        section="Cold start",
        title="Truncated history",
        metrics={"sft/dropped_turns": "turns", "sft/cut_histories": "histories"},
        note="over the step's examples",
    ),
    ChartPlan(
        stage="grpo",
        section="Rewards",
        title="Std of rewards",
        metrics={"reward/std_in_group": "std"},
        note="within a group, mean over the step's groups",
    ),
    ChartPlan(
        stage="grpo",
        section="Aspects",
        title="Unknown aspects",
        metrics={f"aspect/{aspect}_unknown": aspect.label for aspect in Aspect},
        note="% of well-formed completions",
        percent=True,
    ),
    ChartPlan(
        stage="grpo",
        section="Form",
        title="Longest completion",
        metrics={"rollout/completion_tokens_max": "longest"},
        note="tokens",
    ),
    ChartPlan(
        stage="grpo", section="Form", title="Response length", metrics={"rollout/response_words_mean": "mean"}, note="words"
    ),
    ChartPlan(stage="grpo", section="Policy", title="Loss", metrics={"grpo/loss": "loss"}),
    ChartPlan(stage="grpo", section="Policy", title="Learning rate", metrics={"grpo/learning_rate": "rate"}),
    ChartPlan(
        stage="grpo",
        section="Policy",
        title="Sampler and scorer",
        metrics={"grpo/sampling_logprob_gap": "mean gap", "grpo/largest_ratio_gap": "largest ratio gap"},
        note="mean gap: |difference| of the log-probabilities of sampler and scorer, nats per token",
    ),
    ChartPlan(
        stage="grpo",
        section="Speed",
        title="Seconds per step",
        metrics={"speed/sampling_seconds": "sampling", "speed/training_seconds": "training"},
    ),
    ChartPlan(stage="grpo", section="Speed", title="Tokens per second", metrics={"speed/completion_tokens_per_second": "tokens"}),
    ChartPlan(stage="grpo", section="Speed", title="Tokens per step", metrics={"rollout/completion_tokens": "tokens"}),
    ChartPlan(
        stage="epitome",
        section="Support skills",
        title="Losses",
        metrics={"epitome/level_loss": "levels", "epitome/rationale_loss": "rationales"},
    ),
    ChartPlan(stage="epitome", section="Support skills", title="Macro-F1 on val", metrics={"epitome/val_macro_f1": "macro-F1"}),
    ChartPlan(stage="epitome", section="Support skills", title="Gradient norm", metrics={"epitome/grad_norm": "norm"}),
    ChartPlan(stage="epitome", section="Support skills", title="Learning rate", metrics={"epitome/learning_rate": "rate"}),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaPlan:
    """A table of texts, or a distribution, that a stage logs under the name `key`."""

    stage: str
    section: str
    title: str
    key: str


COMPLETIONS = MediaPlan(stage="grpo", section="Completions", title="Completions with their rewards", key="completions")
SCORES = MediaPlan(stage=EVALUATION, section="Scores", title="Scores of all policies", key="scores")
TABLES = (COMPLETIONS, SCORES)
REWARDS = MediaPlan(stage="grpo", section="Rewards", title="Distribution of rewards", key="distribution/reward")
WORDS = MediaPlan(stage="grpo", section="Form", title="Distribution of response words", key="distribution/response_words")
DISTRIBUTIONS = (REWARDS, WORDS)

POLICY_NAMES = {"zero_shot": "zero-shot", "sft": "after SFT", "grpo": "after GRPO"}
POLICY_NAMES |= {"baseline": "baseline", "trained_baseline": "trained baseline"}
_COMPARED = (
    "BLEU-2", "ROUGE-L F1", "METEOR", "Distinct-3 (corpus)", "BERTScore F1", "MiniLM-L6 score F1 (not BERTScore)", "DIFF-EPITOME",
    "Well-formed", "Response words",
)  # fmt: skip


def score_name(policy: str, metric: str) -> str:
    """The logged name of a policy's metric in the final table.

    >>> score_name("grpo", "ROUGE-L F1")
    'eval/grpo/rouge_l_f1'
    """
    return f"eval/{policy}/{re.sub(r'[^a-z0-9]+', '_', metric.lower()).strip('_')}"


SCORE_CHARTS = tuple(
    ChartPlan(
        stage=EVALUATION,
        section="Scores",
        title=metric,
        metrics={score_name(policy, metric): name for policy, name in POLICY_NAMES.items()},
        note="from the final table",
    )
    for metric in _COMPARED
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonPlan:
    """A parallel-coordinates plot of a sweep, one line per run: the swept keys and the last values of `outcomes`."""

    stage: str
    title: str
    outcomes: tuple[str, ...]


# configuration keys that sweeps vary
SWEPT = ("grpo.beta", "grpo.optimizer.learning_rate", "sft.fraction", "reward.support_skill_weight", "seed")
COMPARISONS = (
    ComparisonPlan(
        stage="grpo",
        title="Swept keys and the last GRPO step",
        outcomes=("reward/total", "grpo/kl", "rollout/response_words_mean"),
    ),
    ComparisonPlan(
        stage=EVALUATION,
        title="Swept keys and the final table after GRPO",
        outcomes=tuple(score_name("grpo", metric) for metric in ("BLEU-2", "ROUGE-L F1", "DIFF-EPITOME")),
    ),
)

DASHBOARD = (*CHARTS, *MORE_CHARTS, *SCORE_CHARTS)
SECTIONS = tuple(dict.fromkeys(plan.section for plan in (*CHARTS, COMPLETIONS, *MORE_CHARTS, SCORES)))


_CHARTED_STAGES = {plan.stage for plan in DASHBOARD}
_LOGS_AS = {"train_baseline": "sft"}  # by the same names, because baselines are trained like SFT


def stage_type(stage: str) -> str:
    """The stage's name in `ChartPlan.stage`. All EPITOME mechanisms, each trained under its own name, are `epitome`.

    >>> stage_type("explorations-plain"), stage_type("train_baseline")
    ('epitome', 'sft')
    """
    stage = _LOGS_AS.get(stage, stage)
    return stage if stage in _CHARTED_STAGES else "epitome"
