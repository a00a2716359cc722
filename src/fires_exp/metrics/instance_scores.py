"""Per-instance scores on disk: enough to resample a table, and to compare systems of different runs.

`instance_scores/<policy>.jsonl` of a run folder has a line {"ids"} with the instances in order, then a line per metric with
{"name", "scale", "kind"} and the data of its statistic (`metrics/bootstrap.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fires_exp.errors import ScoreError
from fires_exp.metrics.bootstrap import Bleu2, Floats, Jackknife, Mean, Statistic
from fires_exp.metrics.rows import Measure

FOLDER = "instance_scores"


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceScores:
    """A system's statistics by metric, over the instances `ids` in order. A table has them multiplied by `scales`."""

    ids: tuple[str, ...]
    statistics: Mapping[str, Statistic]
    scales: Mapping[str, float]

    def resampled(self, weights_RN: Floats) -> dict[str, Floats]:
        """The values of each metric on each resample [R]."""
        return {name: self.scales[name] * statistic(weights_RN) for name, statistic in self.statistics.items()}


def instance_scores_text(ids: Sequence[str], measures: Sequence[Measure]) -> str:
    """The content of the file."""
    lines: list[dict[str, Any]] = [{"ids": list(ids)}]
    lines += [{"name": measure.name, "scale": measure.scale, **_record(measure.statistic)} for measure in measures]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def read_instance_scores(path: Path) -> InstanceScores:
    """Raises `ScoreError` if the file is incomplete or changed."""
    try:
        head, *lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
        return InstanceScores(
            ids=tuple(head["ids"]),
            statistics={line["name"]: _READERS[line["kind"]](line) for line in lines},
            scales={line["name"]: line["scale"] for line in lines},
        )
    except (ValueError, KeyError, TypeError):
        raise ScoreError(f"{path}: not a complete file of scores; run again, or delete the file to leave it out") from None


def _record(statistic: Statistic) -> dict[str, Any]:
    match statistic:
        case Bleu2():
            return {"kind": "bleu_2", "counts": statistic.counts_N6.tolist()}
        case Jackknife():
            return {"kind": "left_out", "value": statistic.value, "without": statistic.without_N.tolist()}
        case Mean():
            among = None if statistic.among_N.all() else statistic.among_N.tolist()
            return {"kind": "mean", "values": statistic.values_N.tolist(), "among": among}
    raise TypeError(f"{type(statistic).__name__} cannot be written to a file of scores")


def _mean(line: Mapping[str, Any]) -> Statistic:
    values = np.asarray(line["values"], dtype=np.float64)
    return Mean(values, np.ones(len(values)) if line["among"] is None else np.asarray(line["among"], dtype=np.float64))


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Statistic]] = {
    "bleu_2": lambda line: Bleu2(np.asarray(line["counts"], dtype=np.float64)),
    "left_out": lambda line: Jackknife(line["value"], np.asarray(line["without"], dtype=np.float64)),
    "mean": _mean,
}
