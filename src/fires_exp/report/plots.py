"""Figures as inline SVG text: plain numbers in, one `<svg>` out, no global state, the same bytes for the same numbers.

Colors are CSS variables with a fallback (`var(--line-1, #0072b2)`), so that a page chooses them for light and for dark ground;
ink is `currentColor`. Curves carry their names and last values at their ends instead of a legend.
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

# after Okabe and Ito: told apart by color-blind readers; every curve differs in dashes too
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
DASHES = ("-", "--", "-.", ":")
# the first is a shade off the first curve's, so that it stays itself where the theme changes that one
STATUS_COLORS = {"included": "#0173b3", "neutral": "#56b4e9", "unknown": "#e69f00", "omitted": "#d4d4d4"}
OUTCOME_COLORS = {"win": "#0173b3", "tie": "#d4d4d4", "lose": "#e69f00"}
INK = "#808080"
ON_DARK, ON_LIGHT = "#ffffff", "#111111"
INK_ON = {"#0173b3": ON_DARK, "#d4d4d4": INK}  # the second follows the theme, as its ground does
VARIABLES = {color: f"var(--line-{place}, {color})" for place, color in enumerate(COLORS, start=1)} | {
    STATUS_COLORS["omitted"]: f"var(--omitted, {STATUS_COLORS['omitted']})",
    INK: "currentColor",
}

WIDTH = 3.3  # inches; a page stretches it
LETTERS = 9  # points at that width
LEGEND_COLUMNS = 3  # more names do not fit side by side
LABEL_LETTERS = 11  # a longer name of a bar is broken between words
LABEL_GAP = 0.115  # least distance between two names at the ends of curves, as a share of the chart's height
POINTS_DRAWN = 300  # a longer curve is thinned evenly: a picture shows no more
SMOOTHED_FROM = 10  # points; a mean through fewer would hide what they say
MARKED_POINTS = 30  # up to so many points stand out as dots

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A named curve; `steps` and `values` have one length. A `smooth` one that is long enough is drawn as pale
    points with a mean through.

    >>> Line(name="train", steps=[0, 1], values=[2.0, 1.5]).values[-1]
    1.5
    """

    name: str
    steps: Sequence[float]
    values: Sequence[float]
    smooth: bool = False


def curves(title: str, lines: Sequence[Line], *, ident: str, percent: bool = False) -> str:
    """A small chart of one to four curves over steps. With `percent`, values are shares and the axis goes from 0 to 100 %."""
    figure = Figure(figsize=(WIDTH, 0.58 * WIDTH), layout="constrained")
    axes = figure.subplots()
    ends = []
    for line, color, dashes in zip(lines, COLORS, DASHES, strict=False):
        smooth = line.smooth and len(line.values) >= SMOOTHED_FROM
        mean = centered_mean(line.values) if smooth else list(line.values)
        if smooth:
            raw = evenly(list(zip(line.steps, line.values, strict=True)), POINTS_DRAWN)
            axes.plot(*zip(*raw, strict=True), ".", color=color, markersize=5, markeredgewidth=0, alpha=0.55)
        points = evenly(list(zip(line.steps, mean, strict=True)), POINTS_DRAWN)
        mark = "." if len(points) <= MARKED_POINTS and not smooth else ""
        axes.plot(*zip(*points, strict=True), linestyle=dashes, color=color, linewidth=1.7, marker=mark, markersize=4.5)
        ends.append(
            (f"{line.name} {_number(mean[-1], percent)}" if len(lines) > 1 else _number(mean[-1], percent), mean[-1], color)
        )
    if percent:
        axes.set_ylim(-0.03, 1.03)
    _plain(axes)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10], integer=True))
    axes.yaxis.set_major_locator(
        FixedLocator([0, 0.25, 0.5, 0.75, 1]) if percent else MaxNLocator(nbins=4, min_n_ticks=3, steps=[1, 2, 2.5, 5, 10])
    )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}" if percent else f"{value:g}"))
    axes.set_xlabel("step", fontsize=LETTERS, labelpad=1)
    low, high = axes.get_ylim()
    heights = spread([(value - low) / (high - low) for _, value, _ in ends], LABEL_GAP)
    for (text, _, color), height in zip(ends, heights, strict=True):
        axes.text(1.02, height, text, transform=axes.transAxes, va="center", fontsize=LETTERS, color=color, parse_math=False)
    return _svg(figure, ident, f"{title}: {'; '.join(_in_words(line, percent) for line in lines)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    """A number measured at `place` of an axis, `low` to `high` being its scatter (the value itself where there is none)."""

    place: float
    value: float
    low: float
    high: float


def dots(title: str, measured: Sequence[Dot], *, axis: str, ident: str) -> str:
    """Numbers over another number that was chosen, e.g. how much data, with their scatter; a line joins them."""
    figure = Figure(figsize=(WIDTH, 0.58 * WIDTH), layout="constrained")
    axes = figure.subplots()
    places, values = [dot.place for dot in measured], [dot.value for dot in measured]
    below, above = [dot.value - dot.low for dot in measured], [dot.high - dot.value for dot in measured]
    reach = [[max(0.0, length) for length in lengths] for lengths in (below, above)]
    axes.errorbar(
        places, values, yerr=reach, color=COLORS[0], marker="o", markersize=4.5, linewidth=1.7, elinewidth=1, capsize=2.5
    )
    _plain(axes)
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, min_n_ticks=3, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel(axis, fontsize=LETTERS, labelpad=1)
    words = (f"{dot.value:.3g} at {dot.place:g}" for dot in measured)
    return _svg(figure, ident, f"{title} over {axis}: {', '.join(words)}")


def stacked_shares(title: str, shares: Mapping[str, Mapping[str, float]], *, ident: str, legend: bool) -> str:
    """Figure 3: a horizontal stacked bar an aspect, which share of thoughts includes, calls neutral or unknown, or omits it."""
    return _stacked(title, shares, STATUS_COLORS, ident, legend=legend)


def stacked_outcomes(title: str, rates: Mapping[str, Mapping[str, float]], *, ident: str) -> str:
    """Horizontal stacked bars, one a comparison: the rates of win, tie and lose, with a legend (Figure 5)."""
    return _stacked(title, rates, OUTCOME_COLORS, ident, legend=True)


def _stacked(
    title: str, shares: Mapping[str, Mapping[str, float]], colors: Mapping[str, str], ident: str, *, legend: bool
) -> str:
    lines = math.ceil(len(colors) / LEGEND_COLUMNS) if legend else 0
    figure = Figure(figsize=(WIDTH, 0.3 + 0.36 * len(shares) + 0.2 * lines), layout="constrained")
    axes = figure.subplots()
    names = list(shares)[::-1]
    left = [0.0] * len(names)
    places = range(len(names))
    for status, color in colors.items():
        widths = [100 * shares[name].get(status, 0.0) for name in names]
        axes.barh(places, widths, left=left, color=color, height=0.78)
        ink = INK_ON.get(color, ON_LIGHT)
        for place, width in enumerate(widths):
            if width >= 8:
                axes.text(
                    left[place] + width / 2, place, f"{width:.0f}", ha="center", va="center_baseline", fontsize=LETTERS, color=ink
                )
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_yticks(places, [textwrap.fill(name, LABEL_LETTERS, break_long_words=False) for name in names], parse_math=False)
    axes.set_xlim(0, 100)
    _plain(axes)
    axes.grid(visible=False)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0, labelsize=LETTERS)
    axes.xaxis.set_major_locator(FixedLocator([0, 50, 100]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f} %"))
    if legend:
        patches = [Patch(color=color, label=status) for status, color in colors.items()]
        figure.legend(
            handles=patches,
            loc="outside upper center",
            ncols=math.ceil(len(patches) / lines),
            fontsize=LETTERS,
            labelcolor=INK,
            frameon=False,
        )
    words = (
        f"{name} " + ", ".join(f"{100 * share:.0f} % {status}" for status, share in of_aspect.items() if share)
        for name, of_aspect in shares.items()
    )
    return _svg(figure, ident, f"{title}: {'; '.join(words)}")


def alone(svg: str) -> str:
    """A figure drawn for a page, as a file of its own: with the letters and the ground that a page would give it."""
    return svg.replace("<svg ", '<svg font-family="sans-serif" style="background: white" ', 1) + "\n"


def centered_mean(values: Sequence[float]) -> list[float]:
    """Mean of each value and its neighbors on both sides, a twentieth of the curve but at least one; at the ends, of those
    that there are. Unlike an exponential mean it does not lag, so two curves cross where they do.

    >>> centered_mean([0.0, 3.0, 0.0, 3.0])
    [1.5, 1.0, 2.0, 1.5]
    """
    reach = max(1, len(values) // 20)
    windows = (values[max(0, place - reach) : place + reach + 1] for place in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def evenly(rows: Sequence[T], count: int) -> list[T]:
    """At most `count` of the rows, spread evenly from the first to the last."""
    if len(rows) <= count:
        return list(rows)
    return [rows[round(place * (len(rows) - 1) / (count - 1))] for place in range(count)]


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """The heights, moved as little as needed for neighbors to lie `gap` apart; order kept, none above 1.

    >>> spread([0.5, 0.5], 0.25)
    [0.5, 0.75]
    """
    order = sorted(range(len(heights)), key=lambda place: heights[place])
    moved = [heights[place] for place in order]
    for place in range(1, len(moved)):
        moved[place] = max(moved[place], moved[place - 1] + gap)
    if moved and moved[-1] > 1:
        moved[-1] = 1.0
        for place in range(len(moved) - 2, -1, -1):
            moved[place] = min(moved[place], moved[place + 1] - gap)
    found = dict(zip(order, moved, strict=True))
    return [found[place] for place in range(len(heights))]


def _number(value: float, percent: bool) -> str:
    if percent:
        return f"{100 * value:.0f} %" if value == 0 or abs(value) >= 0.1 else f"{100 * value:.2g} %"
    return f"{value:.3g}"


def _in_words(line: Line, percent: bool) -> str:
    first, last = (_number(value, percent) for value in (line.values[0], line.values[-1]))
    low, high = (_number(value, percent) for value in (min(line.values), max(line.values)))
    return f"{line.name} from {first} at step {line.steps[0]:g} to {last} at step {line.steps[-1]:g}, between {low} and {high}"


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(INK)
        spine.set_linewidth(0.6)
    axes.tick_params(colors=INK, labelsize=LETTERS, width=0.6, length=2.5, pad=2)
    axes.grid(axis="y", color=INK, alpha=0.22, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.label.set_color(INK)


def _svg(figure: Figure, ident: str, description: str) -> str:
    """The figure as `<svg>` for a page: no size and no fonts of its own, only ids that are used, made unique by `ident`."""
    buffer = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with mpl.rc_context({"svg.hashsalt": ident, "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns:xlink="[^"]*"', "", svg).replace("xlink:href", "href")
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg))
    names = {name for pair in used for name in pair if name}
    svg = re.sub(r' id="([^"]+)"', lambda found: f' id="{ident}-{found[1]}"' if found[1] in names else "", svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\1{ident}-", svg)
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r"font-family: [^;\"]*; | transform=\"rotate\(-0 [^\"]*\"", "", svg)
    for color, variable in VARIABLES.items():
        svg = svg.replace(color, variable)
    svg = re.sub(r"\n\s*", "\n", svg)
    head = re.sub(r' (?:width|height)="[^"]*"', "", svg[: svg.index(">")])
    return f'{head} role="img" aria-label="{html.escape(description)}"{svg[svg.index(">") :]}'


def finite(value: object) -> bool:
    """Whether a logged value is a number that can be drawn."""
    return isinstance(value, int | float) and math.isfinite(value)
