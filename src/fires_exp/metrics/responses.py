"""What systems' responses score against the references: the rows of the table, with intervals and comparisons."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from fires_exp.config.scoring import MetricsConfig
from fires_exp.errors import FiresError
from fires_exp.metrics.bootstrap import Floats, draw_resamples, interval, p_value, value
from fires_exp.metrics.measures import Answer, bleu, diff_epitome, distinct_3, form, meteors, rouge, similarity
from fires_exp.metrics.rows import AbsentMetric, Comparison, Evaluation, Measure, MetricRow
from fires_exp.scores.bertscore import BertScore
from fires_exp.scores.epitome.levels import SupportSkillScorer
from fires_exp.scores.wordnet import load_wordnet

Family = Callable[[Sequence[Answer]], list[Measure]]


def response_metrics(
    systems: Mapping[str, Sequence[Answer]],
    config: MetricsConfig,
    *,
    seed: int,
    cache: Path,
    device: torch.device,
    scorer: SupportSkillScorer | None,
    progress: bool,
) -> Evaluation:
    """All metrics of all systems, which answered the same instances in the same order, and each pair of systems compared.

    A metric that can't be had here is absent for every system, with the reason.
    """
    measured: dict[str, list[Measure]] = {system: [] for system in systems}
    absent = []
    for name, load in _families(config, cache, device, scorer, progress=progress).items():
        try:
            family = load()
            found = {system: family(answers) for system, answers in systems.items()}
        except FiresError as error:
            absent.append(AbsentMetric(name=name, reason=str(error)))
        else:
            for system, measures in found.items():
                measured[system] += measures
    (instances,) = {len(answers) for answers in systems.values()}
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
    comparisons = [comparison for pair in pairs for comparison in _compared(pair, rows, resampled, config.confidence)]
    return Evaluation(
        systems=rows,
        measures={system: tuple(measures) for system, measures in measured.items()},
        comparisons=tuple(comparisons),
        absent=tuple(absent),
        bootstrap_samples=config.bootstrap_samples,
        confidence=config.confidence,
    )


def _families(
    config: MetricsConfig, cache: Path, device: torch.device, scorer: SupportSkillScorer | None, *, progress: bool
) -> dict[str, Callable[[], Family]]:
    """By the name that stands in the table where a family is absent: what loads it, in the order of the table."""
    families: dict[str, Callable[[], Family]] = {}
    if "bleu_2" in config.include:
        families["BLEU-2"] = lambda: bleu
    if "rouge_l" in config.include:
        families["ROUGE-L"] = lambda: rouge
    if "meteor" in config.include:
        families["METEOR"] = lambda: partial(meteors, wordnet=load_wordnet(cache))
    if "distinct_3" in config.include:
        families["Distinct-3"] = lambda: distinct_3
    if "similarity" in config.include:
        families["BERTScore"] = lambda: partial(
            similarity, encoder=BertScore(config.similarity, cache, device, progress=progress)
        )
    if "diff_epitome" in config.include:
        families["DIFF-EPITOME"] = lambda: partial(diff_epitome, scorer=scorer)
    return families | {"form": lambda: form}


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


def _compared(
    pair: tuple[str, str],
    rows: Mapping[str, Sequence[MetricRow]],
    resampled: Mapping[str, Mapping[str, Floats]],
    confidence: float,
) -> list[Comparison]:
    """The second system against the first, in every metric that has a better direction."""
    first, second = pair
    values = {system: {row.name: row.value for row in rows[system]} for system in pair}
    comparisons = []
    for row in rows[first]:
        if row.direction != "none" and row.name in values[second]:
            differences_R = resampled[second][row.name] - resampled[first][row.name]
            low, high = interval(differences_R, confidence)
            comparisons.append(
                Comparison(
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
