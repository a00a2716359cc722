"""Figures of a scorer's test: confusion matrices and calibration, one panel for each mechanism."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from fires_exp.metrics.classification import LevelTable
from fires_exp.report.plots import COLORS

INCHES = 3.4
DOTS_PER_INCH = 150
ON_DARK_FROM = 0.5  # shares above this are printed in white


def draw_confusion(tables: Mapping[str, LevelTable], path: Path) -> None:
    """Confusion matrices; a cell's color is its share of the true level's row."""
    figure = Figure(figsize=(INCHES * len(tables), INCHES), layout="constrained")
    for axes, (name, table) in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables.items(), strict=True):
        shares = [[count / max(1, sum(row)) for count in row] for row in table.confusion]
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for true, row in enumerate(table.confusion):
            for predicted, count in enumerate(row):
                color = "white" if shares[true][predicted] > ON_DARK_FROM else "black"
                axes.text(predicted, true, str(count), ha="center", va="center", color=color)
        axes.set(title=f"{_title(name)}\nmacro-F1 {table.macro_f1:.2f}", xlabel="predicted level", ylabel="labeled level")
        axes.set(xticks=range(len(table.confusion)), yticks=range(len(table.confusion)))
    figure.savefig(path, dpi=DOTS_PER_INCH, metadata={"Software": None})


def draw_calibration(tables: Mapping[str, LevelTable], path: Path) -> None:
    """Accuracy over the scorer's confidence; the area of a dot grows with the number of pairs."""
    figure = Figure(figsize=(INCHES * len(tables), INCHES), layout="constrained")
    for axes, (name, table) in zip(figure.subplots(1, len(tables), squeeze=False)[0], tables.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
        axes.plot([part.confidence for part in table.bins], [part.accuracy for part in table.bins], color=COLORS[0])
        axes.scatter(
            [part.confidence for part in table.bins],
            [part.accuracy for part in table.bins],
            s=[10 + 300 * part.count / table.count for part in table.bins],
            color=COLORS[0],
        )
        axes.set(title=f"{_title(name)}\ncalibration error {table.calibration_error:.2f}", xlabel="confidence", ylabel="accuracy")
        axes.set(xlim=(0.3, 1.02), ylim=(0, 1.02))
    figure.savefig(path, dpi=DOTS_PER_INCH, metadata={"Software": None})


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()
