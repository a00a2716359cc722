"""Records of a table of metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from fires_exp.metrics.bootstrap import Statistic

Direction = Literal["higher", "lower", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """A metric of one system before resampling. Its value is `scale` times the statistic; `count` is its number of instances."""

    name: str
    direction: Direction
    tokens: str
    version: str
    statistic: Statistic
    count: int
    scale: float


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricRow:
    """One number of a table. Scores are multiplied by 100, as in the paper; `low` to `high` is the confidence interval;
    `direction` is the better one, `none` for a descriptive number; `count` is the number of instances."""

    name: str
    value: float
    low: float
    high: float
    direction: Direction
    tokens: str
    version: str
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricComparison:
    """The value of system `second` minus that of `first` in one metric, on the same resamples of the same instances."""

    name: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class AbsentMetric:
    """A configured metric that could not be computed; `reason` includes the remedy."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricsTable:
    """The metrics of one or more systems on the same instances; `measures` are the rows before resampling."""

    systems: Mapping[str, tuple[MetricRow, ...]]
    measures: Mapping[str, tuple[Measure, ...]] = field(compare=False)  # arrays cannot be compared with ==
    comparisons: tuple[MetricComparison, ...]
    absent: tuple[AbsentMetric, ...]
    bootstrap_samples: int
    confidence: float

    def as_json(self) -> dict[str, Any]:
        """The part of `metrics.json` that describes it."""
        return {
            "policies": {system: [asdict(row) for row in rows] for system, rows in self.systems.items()},
            "comparisons": [asdict(comparison) for comparison in self.comparisons],
            "absent": [asdict(metric) for metric in self.absent],
            "bootstrap_samples": self.bootstrap_samples,
            "confidence": self.confidence,
        }
