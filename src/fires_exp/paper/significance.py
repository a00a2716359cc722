"""Significance of the difference between two rows: a paired bootstrap over the instances of runs in different folders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from fires_exp.metrics.bootstrap import Floats, draw_resamples, p_value
from fires_exp.metrics.instance_scores import read_instance_scores
from fires_exp.paper.runs import Run


@dataclass(frozen=True, kw_only=True, slots=True)
class Resampled:
    """A run's metrics on the resamples drawn with `seed`."""

    ids: tuple[str, ...]
    seed: int
    metrics: dict[str, Floats]


@dataclass(frozen=True, kw_only=True)
class PairedBootstrap:
    """Compares rows with the row whose runs are `against`.

    Two runs of the same seed are scored on the same resamples of the same instances; the statistic is the mean of their
    differences over the seeds that both rows have. So p measures the variation over instances, not over seeds.
    """

    against: Sequence[Run]
    base: dict[int, Resampled] = field(default_factory=dict)  # of `against`, by seed, filled on demand

    def p_values(self, runs: Sequence[Run]) -> dict[str, float] | str:
        """p by metric, or why the rows cannot be compared."""
        theirs = {run.seed: run for run in self.against}
        pairs = [(theirs[run.seed], run) for run in runs if run.seed in theirs]
        if not pairs:
            return "the two rows have no seed in common"
        without = [run for pair in pairs for run in pair if not run.scores_file.is_file()]
        if without:
            return f"{without[0].name} has no scores of its instances; run it again"
        differences = []
        for their, our in pairs:
            base, scores = self._resampled(their), read_instance_scores(our.scores_file)
            if scores.ids != base.ids:
                return f"{our.name} answered other instances"
            ours = scores.resampled(_resamples(len(scores.ids), their.table["bootstrap_samples"], base.seed))
            differences.append({name: ours[name] - base.metrics[name] for name in ours if name in base.metrics})
        shared = [name for name in differences[0] if all(name in seed for seed in differences)]
        return {name: p_value(np.mean([seed[name] for seed in differences], axis=0)) for name in shared}

    def _resampled(self, run: Run) -> Resampled:
        """Seeds with the same instances share their resamples; others have independent ones."""
        if run.seed not in self.base:
            scores = read_instance_scores(run.scores_file)
            seed = next((base.seed for base in self.base.values() if base.ids == scores.ids), run.seed)
            weights_RN = _resamples(len(scores.ids), run.table["bootstrap_samples"], seed)
            self.base[run.seed] = Resampled(ids=scores.ids, seed=seed, metrics=scores.resampled(weights_RN))
        return self.base[run.seed]


@lru_cache(maxsize=4)
def _resamples(instances: int, samples: int, seed: int) -> Floats:
    return draw_resamples(instances, samples, seed)
