"""What a table holds, as records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from fires_exp.metrics.bootstrap import Statistic

Direction = Literal["higher", "lower", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """A metric before it is resampled: `count` is over how many instances; the table has `scale` times the statistic."""

    name: str
    direction: Direction
    tokens: str
    version: str
    statistic: Statistic
    count: int
    scale: float


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricRow:
    """One number of a table with what is needed to read it. Scores are times 100, as the paper prints them; `low` to `high` is
    its interval; `direction` is the better one, `none` for what merely describes; `count` is over how many instances."""

    name: str
    value: float
    low: float
    high: float
    direction: Direction
    tokens: str
    version: str
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """`second` minus `first` in one metric, on the same resamples of the same instances."""

    name: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class AbsentMetric:
    """A metric that was asked for and could not be had; `reason` says what helps."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """What several systems, or one, score on the same instances; `measures` are the systems' rows before they were resampled."""

    systems: Mapping[str, tuple[MetricRow, ...]]
    measures: Mapping[str, tuple[Measure, ...]] = field(compare=False)  # arrays have no truth value to compare by
    comparisons: tuple[Comparison, ...]
    absent: tuple[AbsentMetric, ...]
    bootstrap_samples: int
    confidence: float

    def as_json(self) -> dict[str, Any]:
        """`metrics.json`'s part of it."""
        return {
            "policies": {system: [asdict(row) for row in rows] for system, rows in self.systems.items()},
            "comparisons": [asdict(comparison) for comparison in self.comparisons],
            "absent": [asdict(metric) for metric in self.absent],
            "bootstrap_samples": self.bootstrap_samples,
            "confidence": self.confidence,
        }
