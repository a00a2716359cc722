"""Agreement between raters, with NLTK; None where a coefficient is not defined."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from nltk.metrics.agreement import AnnotationTask

Labels = Mapping[str, str]  # one rater's labels by item


def cohens_kappa(raters: Sequence[Labels]) -> float | None:
    """Over the items that both of two raters labeled. Not defined for another number of raters, without such an item, or where
    both raters always chose the same label (0/0)."""
    if len(raters) != 2:
        return None
    both = raters[0].keys() & raters[1].keys()
    return _coefficient("kappa", [{item: labels[item] for item in both} for labels in raters])


def krippendorffs_alpha(raters: Sequence[Labels]) -> float | None:
    """For nominal labels and any number of raters; items may be missing. Not defined where no item has two labels, or where all
    labels of such items are equal."""
    counts: dict[str, int] = {}
    for labels in raters:
        for item in labels:
            counts[item] = counts.get(item, 0) + 1
    return _coefficient("alpha", [{item: label for item, label in labels.items() if counts[item] > 1} for labels in raters])


def observed_agreement(raters: Sequence[Labels]) -> float | None:
    """The share of pairs of labels of one item that are equal; None where no item has two."""
    pairs = [
        first[item] == second[item]
        for first, second in itertools.combinations(raters, 2)
        for item in first.keys() & second.keys()
    ]
    return sum(pairs) / len(pairs) if pairs else None


def _coefficient(name: str, raters: Sequence[Labels]) -> float | None:
    triples = [(rater, item, label) for rater, labels in enumerate(raters) for item, label in sorted(labels.items())]
    if len({label for _, _, label in triples}) < 2:
        return None
    return float(getattr(AnnotationTask(triples), name)())
