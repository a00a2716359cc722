"""Figures as inline SVG text: numbers in, one `<svg>` out. Deterministic to the byte, without global state.

Colors are CSS variables with a fallback (`var(--line-1, #0072b2)`), so that a page sets them for its light and its dark theme;
ink is `currentColor`. Curves are labeled at their ends with name and last value instead of by a legend.
"""

from __future__ import annotations

import html
import io
import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

# Okabe and Ito's palette, which color-blind readers can distinguish; curves differ in their dashes too
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
DASHES = ("-", "--", "-.", ":")
# the first differs slightly from the first curve's color, so that a theme that changes that one leaves this one as it is
STATUS_COLORS = {"included": "#0173b3", "neutral": "#56b4e9", "unknown": "#e69f00", "omitted": "#d4d4d4"}
OUTCOME_COLORS = {"win": "#0173b3", "tie": "#d4d4d4", "lose": "#e69f00"}
INK = "#808080"
ON_DARK, ON_LIGHT = "#ffffff", "#111111"
INK_ON = {"#0173b3": ON_DARK, "#d4d4d4": INK}  # the second changes with the theme, as its background does
VARIABLES = {color: f"var(--line-{number}, {color})" for number, color in enumerate(COLORS, start=1)} | {
    STATUS_COLORS["omitted"]: f"var(--omitted, {STATUS_COLORS['omitted']})",
    INK: "currentColor",
}

WIDTH = 3.3  # inches; a page stretches it
FONT_SIZE = 9  # points at that width
LEGEND_COLUMNS = 3  # more names do not fit in the width
LABEL_WIDTH = 11  # letters; a longer name of a bar is wrapped
LABEL_GAP = 0.115  # minimum distance between the labels of two curves, as a share of the chart's height
POINTS_DRAWN = 300  # a longer curve is thinned evenly: more points are not visible at this size
SMOOTHED_FROM = 10  # points; a mean over fewer would hide the values
MARKED_POINTS = 30  # up to this many points are marked with dots

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """A named curve; `steps` and `values` have the same length. With `smooth` and enough points, the values are drawn as pale
    points and their running mean as the line.

    >>> Curve(name="train", steps=[0, 1], values=[2.0, 1.5]).values[-1]
    1.5
    """

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    smooth: bool = False


def curves_over_steps(title: str, curves: Sequence[Curve], *, ident: str, percent: bool = False) -> str:
    """A small chart of one to four curves over steps. With `percent`, values are shares and the axis goes from 0 to 100 %."""
    figure = Figure(figsize=(WIDTH, 0.58 * WIDTH), layout="constrained")
    axes = figure.subplots()
    ends = []
    for curve, color, dashes in zip(curves, COLORS, DASHES, strict=False):  # there are more colors than curves
        smooth = curve.smooth and len(curve.values) >= SMOOTHED_FROM
        mean = centered_mean(curve.values) if smooth else list(curve.values)
        if smooth:
            raw = evenly(list(zip(curve.steps, curve.values, strict=True)), POINTS_DRAWN)
            axes.plot(*zip(*raw, strict=True), ".", color=color, markersize=5, markeredgewidth=0, alpha=0.55)
        points = evenly(list(zip(curve.steps, mean, strict=True)), POINTS_DRAWN)
        mark = "." if len(points) <= MARKED_POINTS and not smooth else ""
        axes.plot(*zip(*points, strict=True), linestyle=dashes, color=color, linewidth=1.7, marker=mark, markersize=4.5)
        ends.append(
            (f"{curve.name} {_number(mean[-1], percent)}" if len(curves) > 1 else _number(mean[-1], percent), mean[-1], color)
        )
    if percent:
        axes.set_ylim(-0.03, 1.03)
    _plain(axes)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10], integer=True))
    axes.yaxis.set_major_locator(
        FixedLocator([0, 0.25, 0.5, 0.75, 1]) if percent else MaxNLocator(nbins=4, min_n_ticks=3, steps=[1, 2, 2.5, 5, 10])
    )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}" if percent else f"{value:g}"))
    axes.set_xlabel("step", fontsize=FONT_SIZE, labelpad=1)
    low, high = axes.get_ylim()
    heights = spread([(value - low) / (high - low) for _, value, _ in ends], LABEL_GAP)
    for (text, _, color), height in zip(ends, heights, strict=True):
        axes.text(1.02, height, text, transform=axes.transAxes, va="center", fontsize=FONT_SIZE, color=color, parse_math=False)
    return _svg(figure, ident, f"{title}: {'; '.join(_in_words(curve, percent) for curve in curves)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredPoint:
    """A value measured at `x`, with its interval from `low` to `high` (both the value itself where there is none)."""

    x: float
    value: float
    low: float
    high: float


def points_with_intervals(title: str, points: Sequence[MeasuredPoint], *, axis: str, ident: str) -> str:
    """Values over a number that was set, e.g. the size of the training data, with error bars, joined by a line."""
    figure = Figure(figsize=(WIDTH, 0.58 * WIDTH), layout="constrained")
    axes = figure.subplots()
    positions, values = [point.x for point in points], [point.value for point in points]
    below, above = [point.value - point.low for point in points], [point.high - point.value for point in points]
    bars = [[max(0.0, length) for length in lengths] for lengths in (below, above)]
    axes.errorbar(
        positions, values, yerr=bars, color=COLORS[0], marker="o", markersize=4.5, linewidth=1.7, elinewidth=1, capsize=2.5
    )
    _plain(axes)
    axes.xaxis.set_major_locator(FixedLocator(positions))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, min_n_ticks=3, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel(axis, fontsize=FONT_SIZE, labelpad=1)
    words = (f"{point.value:.3g} at {point.x:g}" for point in points)
    return _svg(figure, ident, f"{title} over {axis}: {', '.join(words)}")


def stacked_shares(title: str, shares: Mapping[str, Mapping[str, float]], *, ident: str, legend: bool) -> str:
    """Figure 3, one horizontal stacked bar for each aspect: the shares of thoughts that include it, call it neutral or unknown,
    or omit it."""
    return _stacked(title, shares, STATUS_COLORS, ident, legend=legend)


def stacked_outcomes(title: str, rates: Mapping[str, Mapping[str, float]], *, ident: str) -> str:
    """Figure 5, one horizontal stacked bar for each comparison: the rates of win, tie and lose, with a legend."""
    return _stacked(title, rates, OUTCOME_COLORS, ident, legend=True)


def _stacked(
    title: str, shares: Mapping[str, Mapping[str, float]], colors: Mapping[str, str], ident: str, *, legend: bool
) -> str:
    lines = math.ceil(len(colors) / LEGEND_COLUMNS) if legend else 0
    figure = Figure(figsize=(WIDTH, 0.3 + 0.36 * len(shares) + 0.2 * lines), layout="constrained")
    axes = figure.subplots()
    names = list(shares)[::-1]
    left = [0.0] * len(names)
    positions = range(len(names))
    for status, color in colors.items():
        widths = [100 * shares[name].get(status, 0.0) for name in names]
        axes.barh(positions, widths, left=left, color=color, height=0.78)
        ink = INK_ON.get(color, ON_LIGHT)
        for position, width in zip(positions, widths, strict=True):
            if width >= 8:
                center = left[position] + width / 2
                axes.text(center, position, f"{width:.0f}", ha="center", va="center_baseline", fontsize=FONT_SIZE, color=ink)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_yticks(positions, [textwrap.fill(name, LABEL_WIDTH, break_long_words=False) for name in names], parse_math=False)
    axes.set_xlim(0, 100)
    _plain(axes)
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0, labelsize=FONT_SIZE)
    axes.xaxis.set_major_locator(FixedLocator([0, 50, 100]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} %"))
    if legend:
        patches = [Patch(color=color, label=status) for status, color in colors.items()]
        figure.legend(
            handles=patches,
            loc="outside upper center",
            ncols=math.ceil(len(patches) / lines),
            fontsize=FONT_SIZE,
            labelcolor=INK,
            frameon=False,
        )
    words = (
        f"{name} " + ", ".join(f"{100 * share:.0f} % {status}" for status, share in of_aspect.items() if share)
        for name, of_aspect in shares.items()
    )
    return _svg(figure, ident, f"{title}: {'; '.join(words)}")


def standalone(svg: str) -> str:
    """A figure for a page as a file of its own, with the font and the background that a page sets."""
    return svg.replace("<svg ", '<svg font-family="sans-serif" style="background: white" ', 1) + "\n"


def centered_mean(values: Sequence[float]) -> list[float]:
    """The mean of each value and its neighbors on both sides: a twentieth of the curve but at least one, fewer at the ends.
    Unlike an exponential mean it does not lag.

    >>> centered_mean([0.0, 3.0, 0.0, 3.0])
    [1.5, 1.0, 2.0, 1.5]
    """
    reach = max(1, len(values) // 20)
    windows = (values[max(0, index - reach) : index + reach + 1] for index in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def evenly(rows: Sequence[T], count: int) -> list[T]:
    """At most `count` of the rows, spread evenly from the first to the last."""
    if len(rows) <= count:
        return list(rows)
    return [rows[round(index * (len(rows) - 1) / (count - 1))] for index in range(count)]


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """The heights, moved so that neighbors are at least `gap` apart; the order stays, and none is above 1.

    >>> spread([0.5, 0.5], 0.25)
    [0.5, 0.75]
    """
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    ascending = [heights[index] for index in order]
    for rank in range(1, len(ascending)):
        ascending[rank] = max(ascending[rank], ascending[rank - 1] + gap)
    if ascending and ascending[-1] > 1:
        ascending[-1] = 1.0
        for rank in range(len(ascending) - 2, -1, -1):
            ascending[rank] = min(ascending[rank], ascending[rank + 1] - gap)
    by_index = dict(zip(order, ascending, strict=True))
    return [by_index[index] for index in range(len(heights))]


def _number(value: float, percent: bool) -> str:
    if percent:
        return f"{100 * value:.0f} %" if value == 0 or abs(value) >= 0.1 else f"{100 * value:.2g} %"
    return f"{value:.3g}"


def _in_words(curve: Curve, percent: bool) -> str:
    first, last = (_number(value, percent) for value in (curve.values[0], curve.values[-1]))
    low, high = (_number(value, percent) for value in (min(curve.values), max(curve.values)))
    return f"{curve.name} from {first} at step {curve.steps[0]:g} to {last} at step {curve.steps[-1]:g}, between {low} and {high}"


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(INK)
        spine.set_linewidth(0.6)
    axes.tick_params(colors=INK, labelsize=FONT_SIZE, width=0.6, length=2.5, pad=2)
    axes.grid(axis="y", color=INK, alpha=0.22, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.label.set_color(INK)


def _svg(figure: Figure, ident: str, description: str) -> str:
    """The figure as `<svg>` for a page: without size and fonts, and only with referenced ids, prefixed by `ident`."""
    buffer = io.StringIO()
    no_metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with mpl.rc_context({"svg.hashsalt": ident, "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns:xlink="[^"]*"', "", svg).replace("xlink:href", "href")
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg))
    names = {name for pair in used for name in pair if name}
    svg = re.sub(r' id="([^"]+)"', lambda match: f' id="{ident}-{match[1]}"' if match[1] in names else "", svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\1{ident}-", svg)
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r"font-family: [^;\"]*; | transform=\"rotate\(-0 [^\"]*\"", "", svg)
    for color, variable in VARIABLES.items():
        svg = svg.replace(color, variable)
    svg = re.sub(r"\n\s*", "\n", svg)
    head = re.sub(r' (?:width|height)="[^"]*"', "", svg[: svg.index(">")])
    return f'{head} role="img" aria-label="{html.escape(description)}"{svg[svg.index(">") :]}'


def finite(value: object) -> bool:
    """Whether a logged value can be drawn."""
    return isinstance(value, int | float) and math.isfinite(value)
