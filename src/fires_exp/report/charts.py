"""Which figures the page draws, and from which rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from fires_exp.metrics.thoughts import aspect_shares
from fires_exp.report.figures import Line, curves, finite, stacked_shares
from fires_exp.thinking.thought import Thought, parse_thought

Rows = Sequence[Mapping[str, Any]]

POLICY_NAMES = {"zero_shot": "zero-shot", "sft": "after SFT", "grpo": "after GRPO", "rival": "rival"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """A figure with its caption; `stage` groups learning curves and is empty elsewhere."""

    title: str
    note: str
    svg: Markup
    stage: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChartPlan:
    """A learning curve to draw if it was logged: `metrics` are logged names with their names in the chart."""

    stage: str
    title: str
    metrics: Mapping[str, str]
    note: str = ""
    percent: bool = False
    smooth: tuple[str, ...] = ()


CHARTS = (
    ChartPlan(
        stage="sft",
        title="Loss",
        metrics={"sft/loss": "train", "sft/val_loss": "val"},
        note="nats a completion token",
        smooth=("sft/loss",),
    ),
    ChartPlan(stage="sft", title="Learning rate", metrics={"sft/learning_rate": "rate"}),
    ChartPlan(stage="sft", title="Gradient norm", metrics={"sft/grad_norm": "norm"}, note="before it is clipped"),
    ChartPlan(
        stage="grpo",
        title="Reward",
        metrics={"reward/total": "total"},
        note="mean of a step's completions",
        smooth=("reward/total",),
    ),
    ChartPlan(
        stage="grpo",
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
        title="Form of completions",
        metrics={"rollout/well_formed_share": "well-formed", "rollout/truncated_share": "cut off"},
        note="% of completions",
        percent=True,
    ),
    ChartPlan(
        stage="grpo",
        title="Groups without a signal",
        metrics={"rollout/tied_group_share": "tied"},
        note="% of groups whose rewards are all equal: nothing to learn from",
        percent=True,
    ),
    ChartPlan(
        stage="grpo",
        title="One answer for all",
        metrics={
            "health/one_response": "one for many",
            "health/repeated_in_step": "in its step",
            "health/repeated_in_group": "in its group",
        },
        note="% of prompts that one response answers; % of completions whose response stands there twice or more",
        percent=True,
    ),
    ChartPlan(
        stage="grpo",
        title="Answers without effort",
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
        title="Words of responses",
        metrics={"health/words_to_reference": "to references", "health/words_to_start": "to first steps"},
        note="as a share of what they are compared with; a fall is a sign of reward hacking",
    ),
    ChartPlan(stage="grpo", title="KL from the reference", metrics={"grpo/kl": "KL"}, note="nats a token"),
    ChartPlan(stage="grpo", title="Entropy", metrics={"grpo/entropy": "entropy"}, note="nats a token; a collapse is a warning"),
    ChartPlan(
        stage="grpo", title="Completion length", metrics={"rollout/completion_tokens_mean": "mean"}, note="tokens, mean of a step"
    ),
    ChartPlan(
        stage="grpo",
        title="Clipped tokens",
        metrics={"grpo/clip_share": "clipped"},
        note="% of tokens; none by construction where every rollout is used once",
        percent=True,
    ),
    ChartPlan(stage="grpo", title="Gradient norm", metrics={"grpo/grad_norm": "norm"}, note="before it is clipped"),
    ChartPlan(
        stage="grpo",
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


def learning_curves(rows: Rows) -> tuple[Drawing, ...]:
    """The charts for which something was logged; values that are no finite numbers are left out."""
    drawn = []
    for number, plan in enumerate(CHARTS):
        lines = []
        for metric, name in plan.metrics.items():
            points = [(row["step"], row[metric]) for row in rows if row["stage"] == plan.stage and finite(row.get(metric))]
            if points:
                steps, values = zip(*points, strict=True)
                lines.append(Line(name=name, steps=steps, values=values, smooth=metric in plan.smooth))
        if lines:
            svg = curves(f"{plan.stage.upper()}, {plan.title}", lines, ident=f"c{number}", percent=plan.percent)
            drawn.append(Drawing(title=plan.title, note=plan.note, svg=as_markup(svg), stage=plan.stage))
    return tuple(drawn)


def share_figures(
    teacher: Sequence[Thought], teacher_shares: Mapping[str, Mapping[str, float]], policies: Mapping[str, Rows], *, ident: str
) -> tuple[Drawing, ...]:
    """Figure 3 for the teacher's thoughts (or, without them, for the shares that the table kept of them), and the same for the
    thoughts of each policy's well-formed answers. `ident` begins the ids."""
    of_teacher = _by_label(aspect_shares(teacher)) or dict(teacher_shares)
    drawn = []
    if of_teacher:
        note = f"{len(teacher)} thoughts to learn from" if teacher else "thoughts to learn from"
        svg = stacked_shares("Teacher", of_teacher, ident=f"{ident}-teacher")
        drawn.append(Drawing(title="teacher", note=note, svg=as_markup(svg)))
    for number, (policy, rows) in enumerate(policies.items()):
        said = [parse_thought(row["thought"]) for row in rows if row["well_formed"] and row["thought"]]
        if said:
            title = POLICY_NAMES.get(policy, policy)
            svg = stacked_shares(title, _by_label(aspect_shares(said)), ident=f"{ident}{number}")
            drawn.append(
                Drawing(title=title, note=f"{len(said)} well-formed thoughts of {len(rows)} answers", svg=as_markup(svg))
            )
    return tuple(drawn)


def _by_label(shares: Mapping[Any, Mapping[Any, float]]) -> dict[str, Mapping[str, float]]:
    return {aspect.label: of_aspect for aspect, of_aspect in shares.items()}


def as_markup(svg: str) -> Markup:
    """Drawn by `figures`, which escapes what it is told."""
    return Markup(svg)  # noqa: S704
