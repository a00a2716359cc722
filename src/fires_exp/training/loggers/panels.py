"""The charts and tables of a run, as data: the page, Weights & Biases and TensorBoard draw from the same list."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fires_exp.thinking.aspects import Aspect

EVALUATION = "evaluate"
EPITOME = "epitome"


@dataclass(frozen=True, kw_only=True, slots=True)
class ChartPlan:
    """Curves over the steps of a stage: `metrics` maps the logged names to the names in the chart."""

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
        note="nats a completion token",
        smooth=("sft/loss",),
    ),
    ChartPlan(stage="sft", section="Cold start", title="Learning rate", metrics={"sft/learning_rate": "rate"}),
    ChartPlan(
        stage="sft", section="Cold start", title="Gradient norm", metrics={"sft/grad_norm": "norm"}, note="before it is clipped"
    ),
    ChartPlan(
        stage="grpo",
        section="Rewards",
        title="Reward",
        metrics={"reward/total": "total"},
        note="mean of a step's completions",
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
        metrics={"rollout/well_formed_share": "well-formed", "rollout/truncated_share": "cut off"},
        note="% of completions",
        percent=True,
    ),
    ChartPlan(
        stage="grpo",
        section="Rewards",
        title="Groups without a signal",
        metrics={"rollout/tied_group_share": "tied"},
        note="% of groups whose rewards are all equal, so that their advantages are 0",
        percent=True,
    ),
    ChartPlan(
        stage="grpo",
        section="Health",
        title="Repeated responses",
        metrics={
            "health/one_response": "most frequent",
            "health/repeated_in_step": "in its step",
            "health/repeated_in_group": "in its group",
        },
        note="% of prompts that get the same response; % of completions whose response occurs twice or more",
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
        title="Length of responses",
        metrics={"health/words_to_reference": "to references", "health/words_to_start": "to first steps"},
        note="in words, as a share of the length compared with; a fall is a sign of reward hacking",
    ),
    ChartPlan(stage="grpo", section="Policy", title="KL from the reference", metrics={"grpo/kl": "KL"}, note="nats a token"),
    ChartPlan(
        stage="grpo",
        section="Policy",
        title="Entropy",
        metrics={"grpo/entropy": "entropy"},
        note="nats a token; a collapse is a warning",
    ),
    ChartPlan(
        stage="grpo",
        section="Form",
        title="Completion length",
        metrics={"rollout/completion_tokens_mean": "mean"},
        note="tokens, mean of a step",
    ),
    ChartPlan(
        stage="grpo",
        section="Policy",
        title="Clipped tokens",
        metrics={"grpo/clip_share": "clipped"},
        note="% of tokens; 0 by construction where every rollout is used once",
        percent=True,
    ),
    ChartPlan(
        stage="grpo", section="Policy", title="Gradient norm", metrics={"grpo/grad_norm": "norm"}, note="before it is clipped"
    ),
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
        note="% of well-formed completions that name the aspect",
        percent=True,
    ),
)

# only on the dashboards
MORE_CHARTS = (
    ChartPlan(stage="sft", section="Cold start", title="Tokens learned from", metrics={"sft/completion_tokens": "a step"}),
    ChartPlan(
        stage="sft",
        section="Cold start",
        title="History that did not fit",
        metrics={"sft/dropped_turns": "turns", "sft/cut_histories": "histories"},
        note="of a step's instances",
    ),
    ChartPlan(
        stage="grpo",
        section="Rewards",
        title="Spread of rewards",
        metrics={"reward/std_in_group": "deviation"},
        note="in a group, mean of a step's groups",
    ),
    ChartPlan(
        stage="grpo",
        section="Aspects",
        title="Aspects called “Unknown”",
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
        stage="grpo", section="Form", title="Words of responses", metrics={"rollout/response_words_mean": "mean"}, note="words"
    ),
    ChartPlan(stage="grpo", section="Policy", title="Loss", metrics={"grpo/loss": "loss"}),
    ChartPlan(stage="grpo", section="Policy", title="Learning rate", metrics={"grpo/learning_rate": "rate"}),
    ChartPlan(
        stage="grpo",
        section="Policy",
        title="Sampling against scoring",
        metrics={"grpo/sampling_logprob_gap": "mean gap", "grpo/largest_ratio_gap": "largest ratio gap"},
        note="difference of the sampler's and the training pass's log-probabilities, the first in nats a token",
    ),
    ChartPlan(
        stage="grpo",
        section="Speed",
        title="Seconds of a step",
        metrics={"speed/sampling_seconds": "sampling", "speed/training_seconds": "training"},
    ),
    ChartPlan(
        stage="grpo", section="Speed", title="Tokens a second", metrics={"speed/completion_tokens_per_second": "tokens a second"}
    ),
    ChartPlan(stage="grpo", section="Speed", title="Tokens of a step", metrics={"rollout/completion_tokens": "tokens"}),
    ChartPlan(
        stage=EPITOME,
        section="Support skills",
        title="Losses",
        metrics={"epitome/level_loss": "levels", "epitome/rationale_loss": "rationales"},
    ),
    ChartPlan(stage=EPITOME, section="Support skills", title="Macro-F1 on val", metrics={"epitome/val_macro_f1": "macro-F1"}),
    ChartPlan(stage=EPITOME, section="Support skills", title="Gradient norm", metrics={"epitome/grad_norm": "norm"}),
    ChartPlan(stage=EPITOME, section="Support skills", title="Learning rate", metrics={"epitome/learning_rate": "rate"}),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaPlan:
    """A table of texts or a distribution, which a stage logs under the name `key`."""

    stage: str
    section: str
    title: str
    key: str


COMPLETIONS = MediaPlan(stage="grpo", section="Completions", title="Completions with their rewards", key="completions")
SCORES = MediaPlan(stage=EVALUATION, section="Scores", title="Scores of all policies", key="scores")
TABLES = (COMPLETIONS, SCORES)
REWARDS = MediaPlan(stage="grpo", section="Rewards", title="Rewards of a step", key="distribution/reward")
WORDS = MediaPlan(stage="grpo", section="Form", title="Words of a step's responses", key="distribution/response_words")
DISTRIBUTIONS = (REWARDS, WORDS)

POLICY_NAMES = {"zero_shot": "zero-shot", "sft": "after SFT", "grpo": "after GRPO", "baseline": "baseline"}
_COMPARED = (
    "BLEU-2", "ROUGE-L F1", "METEOR", "Distinct-3 (corpus)", "BERTScore F1", "MiniLM-L6 score F1 (not BERTScore)", "DIFF-EPITOME",
    "Well-formed", "Response words",
)  # fmt: skip


def score_name(policy: str, metric: str) -> str:
    """The logged name of a policy's number in the table.

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
        note="of the table",
    )
    for metric in _COMPARED
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonPlan:
    """Parallel coordinates over the runs of a sweep: settings on the left, the last value of each of `outcomes` on the right."""

    stage: str
    title: str
    outcomes: tuple[str, ...]


# keys of the configuration that sweeps change
SWEPT = ("grpo.beta", "grpo.optimizer.learning_rate", "sft.fraction", "reward.support_skill_weight", "seed")
COMPARISONS = (
    ComparisonPlan(
        stage="grpo",
        title="Settings and the end of GRPO",
        outcomes=("reward/total", "grpo/kl", "rollout/response_words_mean"),
    ),
    ComparisonPlan(
        stage=EVALUATION,
        title="Settings and scores after GRPO",
        outcomes=tuple(score_name("grpo", metric) for metric in ("BLEU-2", "ROUGE-L F1", "DIFF-EPITOME")),
    ),
)

DASHBOARD = (*CHARTS, *MORE_CHARTS, *SCORE_CHARTS)
SECTIONS = tuple(dict.fromkeys(plan.section for plan in (*CHARTS, COMPLETIONS, *MORE_CHARTS, SCORES)))


_OWN_NAMES = {plan.stage for plan in DASHBOARD} - {EPITOME}


def chart_stage(stage: str) -> str:
    """The stage under which charts list a stage: EPITOME's mechanisms are trained under names of their own.

    >>> chart_stage("explorations-plain"), chart_stage("grpo")
    ('epitome', 'grpo')
    """
    return stage if stage in _OWN_NAMES else EPITOME
