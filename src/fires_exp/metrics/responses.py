"""Metrics of systems' responses against the references: the rows of the table, with intervals and paired comparisons."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from fires_exp.config.scoring import Metric, MetricsConfig
from fires_exp.errors import FiresError
from fires_exp.metrics.bootstrap import Floats, draw_resamples, interval, p_value, value
from fires_exp.metrics.measures import ScoredResponse, bleu, diff_epitome, distinct_3, form, meteors, rouge, similarity
from fires_exp.metrics.rows import AbsentMetric, Measure, MetricComparison, MetricRow, MetricsTable
from fires_exp.scores.bertscore import BertScore
from fires_exp.scores.epitome.levels import SupportSkillScorer
from fires_exp.scores.wordnet import load_wordnet


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricResources:
    """What metrics may load: the configured encoder and WordNet, both from `cache`, and a scorer of support skills if any."""

    config: MetricsConfig
    cache: Path
    device: torch.device
    scorer: SupportSkillScorer | None
    progress: bool


MeasureResponses = Callable[[Sequence[ScoredResponse]], list[Measure]]


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricFamily:
    """Metrics that are computed together. `title` names the family in a table that lacks it; `load` may raise `FiresError`."""

    title: str
    load: Callable[[MetricResources], MeasureResponses]


def _load_meteor(resources: MetricResources) -> MeasureResponses:
    return partial(meteors, wordnet=load_wordnet(resources.cache))


def _load_similarity(resources: MetricResources) -> MeasureResponses:
    encoder = BertScore(resources.config.similarity, resources.cache, resources.device, progress=resources.progress)
    return partial(similarity, encoder=encoder)


# in the order of a table's rows
FAMILIES: Mapping[Metric, MetricFamily] = {
    Metric.bleu_2: MetricFamily(title="BLEU-2", load=lambda resources: bleu),
    Metric.rouge_l: MetricFamily(title="ROUGE-L", load=lambda resources: rouge),
    Metric.meteor: MetricFamily(title="METEOR", load=_load_meteor),
    Metric.distinct_3: MetricFamily(title="Distinct-3", load=lambda resources: distinct_3),
    Metric.similarity: MetricFamily(title="BERTScore", load=_load_similarity),
    Metric.diff_epitome: MetricFamily(
        title="DIFF-EPITOME", load=lambda resources: partial(diff_epitome, scorer=resources.scorer)
    ),
}
FORM = MetricFamily(title="form", load=lambda resources: form)  # reported whatever `metrics.include` says


def response_metrics(
    systems: Mapping[str, Sequence[ScoredResponse]],
    config: MetricsConfig,
    *,
    seed: int,
    cache: Path,
    device: torch.device,
    scorer: SupportSkillScorer | None,
    progress: bool,
) -> MetricsTable:
    """All metrics of all systems, whose responses are to the same instances in the same order, and all pairs of systems compared.

    A metric that cannot be computed is absent for every system, with the reason.
    """
    resources = MetricResources(config=config, cache=cache, device=device, scorer=scorer, progress=progress)
    measured: dict[str, list[Measure]] = {system: [] for system in systems}
    absent = []
    for family in (*(family for metric, family in FAMILIES.items() if metric in config.include), FORM):
        try:
            measure_responses = family.load(resources)
            by_system = {system: measure_responses(responses) for system, responses in systems.items()}
        except FiresError as error:
            absent.append(AbsentMetric(name=family.title, reason=str(error)))
        else:
            for system, measures in by_system.items():
                measured[system] += measures
    (instances,) = {len(responses) for responses in systems.values()}
    weights_RN = draw_resamples(instances, config.bootstrap_samples, seed)
    resampled = {
        system: {measure.name: measure.scale * measure.statistic(weights_RN) for measure in measures}
        for system, measures in measured.items()
    }
    rows = {
        system: tuple(_row(measure, instances, resampled[system][measure.name], config.confidence) for measure in measures)
        for system, measures in measured.items()
    }
    pairs = itertools.combinations(systems, 2)
    comparisons = [comparison for pair in pairs for comparison in _compare(pair, rows, resampled, config.confidence)]
    return MetricsTable(
        systems=rows,
        measures={system: tuple(measures) for system, measures in measured.items()},
        comparisons=tuple(comparisons),
        absent=tuple(absent),
        bootstrap_samples=config.bootstrap_samples,
        confidence=config.confidence,
    )


def _row(measure: Measure, instances: int, resampled_R: Floats, confidence: float) -> MetricRow:
    low, high = interval(resampled_R, confidence)
    return MetricRow(
        name=measure.name,
        value=measure.scale * value(measure.statistic, instances),
        low=low,
        high=high,
        direction=measure.direction,
        tokens=measure.tokens,
        version=measure.version,
        count=measure.count,
    )


def _compare(
    pair: tuple[str, str],
    rows: Mapping[str, Sequence[MetricRow]],
    resampled: Mapping[str, Mapping[str, Floats]],
    confidence: float,
) -> list[MetricComparison]:
    """The second system minus the first, in every metric that has a better direction."""
    first, second = pair
    values = {system: {row.name: row.value for row in rows[system]} for system in pair}
    comparisons = []
    for row in rows[first]:
        if row.direction != "none" and row.name in values[second]:
            differences_R = resampled[second][row.name] - resampled[first][row.name]
            low, high = interval(differences_R, confidence)
            comparisons.append(
                MetricComparison(
                    name=row.name,
                    first=first,
                    second=second,
                    difference=values[second][row.name] - row.value,
                    low=low,
                    high=high,
                    p_value=p_value(differences_R),
                )
            )
    return comparisons
