"""How far raters agree beyond chance, by NLTK; None where a coefficient is not defined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nltk.metrics.agreement import AnnotationTask

Labels = Mapping[str, str]  # one rater's labels by item


def cohens_kappa(raters: Sequence[Labels]) -> float | None:
    """Over the items that both of two raters labeled. Not defined for another number of raters, without such an item, and
    where both always chose one and the same label (0/0)."""
    if len(raters) != 2:
        return None
    both = raters[0].keys() & raters[1].keys()
    return _coefficient("kappa", [{item: labels[item] for item in both} for labels in raters])


def krippendorffs_alpha(raters: Sequence[Labels]) -> float | None:
    """Nominal, for any number of raters with gaps. Not defined where no item has two labels, or all of those are the same."""
    counts: dict[str, int] = {}
    for labels in raters:
        for item in labels:
            counts[item] = counts.get(item, 0) + 1
    return _coefficient("alpha", [{item: one for item, one in labels.items() if counts[item] > 1} for labels in raters])


def observed_agreement(raters: Sequence[Labels]) -> float | None:
    """The share of pairs of labels of one item that are equal; None where no item has two."""
    pairs = [
        one[item] == other[item]
        for place, one in enumerate(raters)
        for other in raters[place + 1 :]
        for item in one.keys() & other.keys()
    ]
    return sum(pairs) / len(pairs) if pairs else None


def _coefficient(name: str, raters: Sequence[Labels]) -> float | None:
    triples = [(rater, item, label) for rater, labels in enumerate(raters) for item, label in sorted(labels.items())]
    if len({label for _, _, label in triples}) < 2:
        return None
    return float(getattr(AnnotationTask(triples), name)())
