"""Figures as inline SVG text: plain numbers in, one `<svg>` out, no global state, the same bytes for the same numbers."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's palette: told apart by colour-blind readers, legible on light and on dark ground
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
STATUS_COLOURS = {"included": "#0072b2", "neutral": "#56b4e9", "unknown": "#e69f00", "omitted": "#bbbbbb"}
INK = "#808080"
SMOOTHING = 0.35


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A named curve; `steps` and `values` have one length."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]


def curves(title: str, lines: Sequence[Line], *, ident: str, smooth: bool = False) -> str:
    """A small chart of one or more curves over steps; with `smooth`, points and an exponential mean through them."""
    figure = Figure(figsize=(3.6, 2.3), layout="constrained")
    axes = figure.subplots()
    for line, colour in zip(lines, COLOURS * (1 + len(lines) // len(COLOURS)), strict=False):
        if smooth:
            axes.plot(line.steps, line.values, ".", color=colour, markersize=4, alpha=0.45)
            axes.plot(line.steps, running_mean(line.values), color=colour, linewidth=2, label=line.name)
        else:
            axes.plot(line.steps, line.values, color=colour, linewidth=1.6, marker=".", markersize=3, label=line.name)
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel("step", fontsize=8)
    if len(lines) > 1:
        axes.legend(frameon=False, fontsize=7.5, labelcolor=INK)
    _plain(axes)
    return _svg(figure, ident, f"{title}: {', '.join(line.name for line in lines)} over training steps")


def stacked_shares(shares: Mapping[str, Mapping[str, float]], title: str, *, ident: str) -> str:
    """Horizontal stacked bars, one an aspect: which share of thoughts includes, calls neutral or unknown, or omits it."""
    figure = Figure(figsize=(3.6, 0.9 + 0.36 * len(shares)), layout="constrained")
    axes = figure.subplots()
    names = list(shares)[::-1]
    left = [0.0] * len(names)
    for status, colour in STATUS_COLOURS.items():
        widths = [100 * shares[name].get(status, 0.0) for name in names]
        axes.barh(names, widths, left=left, color=colour, label=status, height=0.66)
        for place, width in enumerate(widths):
            if width >= 9:
                ink = "white" if status == "included" else "black"
                axes.text(left[place] + width / 2, place, f"{width:.0f}", ha="center", va="center", fontsize=7.5, color=ink)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_xlim(0, 100)
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel("% of thoughts", fontsize=8)
    _plain(axes)
    return _svg(figure, ident, f"{title}: share of thoughts that name each aspect")


def running_mean(values: Sequence[float]) -> list[float]:
    """Exponential mean with weight `SMOOTHING` on the newest value; starts at the first."""
    means: list[float] = []
    for value in values:
        means.append(value if not means else SMOOTHING * value + (1 - SMOOTHING) * means[-1])
    return means


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(INK)
    axes.tick_params(colors=INK, labelsize=8)
    axes.xaxis.label.set_color(INK)
    axes.title.set_color(INK)
    if axes.get_xlabel() == "step":
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))


def _svg(figure: Figure, ident: str, description: str) -> str:
    """The figure as `<svg>` for a page: ids made unique by `ident`, size left to the page, ink to the theme."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": ident, "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{ident}-\1"', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)([^")]+)', rf"\1{ident}-\2", svg)
    svg = svg.replace(INK, "currentColor")
    head = f'<svg role="img" aria-label="{description}"'
    svg = re.sub(r'(<svg[^>]*?) height="[^"]+"', r"\1", svg, count=1)
    return re.sub(r'<svg([^>]*?) width="[^"]+"', rf"{head}\1", svg, count=1)
