"""What each instance brings to each metric, on disk: enough to resample a table, and to compare systems of different runs.

`instance_scores/<policy>.jsonl` of a run folder: a line {"ids"} with the instances in order, then a line a metric,
{"name", "scale", "kind"} and what its statistic is made of (`metrics/bootstrap.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fires_exp.errors import ScoreError
from fires_exp.metrics.bootstrap import Bleu2, Floats, LeftOut, Mean, Statistic
from fires_exp.metrics.rows import Measure

FOLDER = "instance_scores"


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceScores:
    """A system's statistics by metric, times `scales` what the table has, over the instances `ids` in their order."""

    ids: tuple[str, ...]
    statistics: Mapping[str, Statistic]
    scales: Mapping[str, float]

    def resampled(self, weights_RN: Floats) -> dict[str, Floats]:
        """Each metric on each resample."""
        return {name: self.scales[name] * statistic(weights_RN) for name, statistic in self.statistics.items()}


def instance_scores_text(ids: Sequence[str], measures: Sequence[Measure]) -> str:
    """The file's text."""
    lines: list[dict[str, Any]] = [{"ids": list(ids)}]
    lines += [{"name": measure.name, "scale": measure.scale, **_parts(measure.statistic)} for measure in measures]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def read_instance_scores(path: Path) -> InstanceScores:
    """Raises `ScoreError` where the file is not what was written."""
    try:
        head, *lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
        return InstanceScores(
            ids=tuple(head["ids"]),
            statistics={line["name"]: MAKERS[line["kind"]](line) for line in lines},
            scales={line["name"]: line["scale"] for line in lines},
        )
    except (ValueError, KeyError, TypeError):
        raise ScoreError(f"{path}: no whole file of scores; run again, or delete it to do without") from None


def _parts(statistic: Statistic) -> dict[str, Any]:
    match statistic:
        case Bleu2():
            return {"kind": "bleu_2", "counts": statistic.counts_NK.tolist()}
        case LeftOut():
            return {"kind": "left_out", "value": statistic.value, "without": statistic.without_N.tolist()}
        case Mean():
            among = None if statistic.among_N.all() else statistic.among_N.tolist()
            return {"kind": "mean", "values": statistic.values_N.tolist(), "among": among}
    raise TypeError(f"{statistic} has no form on disk")


def _mean(line: Mapping[str, Any]) -> Statistic:
    values = np.asarray(line["values"], dtype=np.float64)
    return Mean(values, np.ones(len(values)) if line["among"] is None else np.asarray(line["among"], dtype=np.float64))


MAKERS: Mapping[str, Callable[[Mapping[str, Any]], Statistic]] = {
    "bleu_2": lambda line: Bleu2(np.asarray(line["counts"], dtype=np.float64)),
    "left_out": lambda line: LeftOut(line["value"], np.asarray(line["without"], dtype=np.float64)),
    "mean": _mean,
}
