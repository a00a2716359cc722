"""Figures: valid SVG with a text alternative, deterministic, and without clashes on a page with others."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from fires_exp.report.plots import (
    Curve,
    MeasuredPoint,
    centered_mean,
    curves_over_steps,
    evenly,
    finite,
    points_with_intervals,
    spread,
    stacked_outcomes,
    stacked_shares,
    standalone,
)

LOSS = [Curve(name="train", steps=range(12), values=[2.0 - 0.1 * step for step in range(12)], smooth=True)]
SHARES = {"Emotion": {"included": 0.5, "omitted": 0.3, "neutral": 0.2, "unknown": 0.0}}


OUTCOMES = {"w/o RL": {"win": 0.45, "tie": 0.4, "lose": 0.15}, "GPT-4o": {"win": 1.0}}


MEASURED = [MeasuredPoint(x=25, value=3.0, low=2.5, high=3.25), MeasuredPoint(x=100, value=4.0, low=4.0, high=4.5)]


@pytest.fixture(params=["curves", "shares", "outcomes", "dots"])
def draw(request):
    return {
        "curves": lambda ident: curves_over_steps("Loss", LOSS, ident=ident),
        "shares": lambda ident: stacked_shares("Teacher", SHARES, ident=ident, legend=False),
        "outcomes": lambda ident: stacked_outcomes("FIRES", OUTCOMES, ident=ident),
        "dots": lambda ident: points_with_intervals("B-2", MEASURED, axis="% of data", ident=ident),
    }[request.param]


def test_a_figure_has_its_values_as_a_text_alternative():
    root = ElementTree.fromstring(curves_over_steps("Loss", LOSS, ident="a"))
    assert root.attrib["role"] == "img"
    assert root.attrib["aria-label"] == "Loss: train from 2 at step 0 to 0.9 at step 11, between 0.9 and 2"
    root = ElementTree.fromstring(stacked_shares("Teacher", SHARES, ident="b", legend=False))
    assert root.attrib["aria-label"] == "Teacher: Emotion 50 % included, 30 % omitted, 20 % neutral"


def test_points_have_values_and_positions_as_a_text_alternative():
    root = ElementTree.fromstring(points_with_intervals("B-2", MEASURED, axis="% of data", ident="a"))
    assert root.attrib["aria-label"] == "B-2 over % of data: 3 at 25, 4 at 100"
    written = [text.strip() for text in root.itertext() if text.strip()]
    assert written[:3] == ["25", "100", "% of data"]


def test_bars_of_outcomes_have_a_legend_and_literal_names():
    svg = stacked_outcomes("FIRES $x$", OUTCOMES, ident="a")
    assert ElementTree.fromstring(svg).attrib["aria-label"] == "FIRES $x$: w/o RL 45 % win, 40 % tie, 15 % lose; GPT-4o 100 % win"
    assert [text.strip() for text in ElementTree.fromstring(svg).itertext() if text.strip() in ("win", "tie", "lose")] == [
        "win",
        "tie",
        "lose",
    ]
    assert "a $b_c$" in "".join(ElementTree.fromstring(stacked_outcomes("x", {"a $b_c$": {"win": 1.0}}, ident="b")).itertext())


def test_a_standalone_figure_has_a_legend_a_font_and_a_background():
    root = ElementTree.fromstring(standalone(stacked_shares("Teacher", SHARES, ident="a", legend=True)))
    legend = [text.strip() for text in root.itertext() if text.strip() in SHARES["Emotion"]]
    assert sorted(legend) == ["included", "neutral", "omitted", "unknown"]
    assert root.attrib["font-family"] == "sans-serif"
    assert root.attrib["style"] == "background: white"


def test_texts_of_a_figure_are_never_markup():
    for svg in (
        curves_over_steps('<b onload="x">$', [Curve(name='<i "$', steps=[0, 1], values=[1.0, 2.0])] * 2, ident="a"),
        stacked_shares('<b onload="x">', {"<i>": {"included": 1.0}}, ident="b", legend=False),
    ):
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(svg).iter()}
        assert tags <= {"svg", "g", "path", "text", "tspan", "defs", "use", "clipPath", "rect"}


def test_the_same_numbers_give_the_same_bytes(draw):
    assert draw("a") == draw("a")


def test_two_figures_share_no_id_and_refer_only_to_their_own(draw):
    for svg in (draw("one"), draw("two")):
        ident = re.search(r'id="(\w+)-', svg)
        ids = re.findall(r'\bid="([^"]+)"', svg)
        targets = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg)
        assert len(ids) == len(set(ids))
        assert {name for pair in targets for name in pair if name} == set(ids)
        assert all(name.startswith(ident[1]) for name in ids)


def test_a_figure_takes_size_color_and_fonts_from_its_page(draw):
    svg = draw("a")
    head = svg[: svg.index(">")]
    assert "viewBox" in head
    assert " width=" not in head
    assert "currentColor" in svg
    assert "font-family" not in svg
    assert "DejaVu" not in svg
    assert "<style" not in svg
    assert "metadata" not in svg


def test_curves_are_labeled_with_names_and_last_values():
    lines = [Curve(name="a", steps=[0, 1], values=[0.0, 0.5]), Curve(name="b", steps=[0, 1], values=[1.0, 0.002])]
    texts = "".join(ElementTree.fromstring(curves_over_steps("Shares", lines, ident="x", percent=True)).itertext())
    assert "a 50 %" in texts
    assert "b 0.2 %" in texts


@pytest.mark.parametrize("values", [[1.0], [0.0, 0.0], [1e-7, 2e-7], [5e8] * 3])
def test_few_equal_tiny_and_huge_values_are_drawn(values):
    ElementTree.fromstring(
        curves_over_steps("x", [Curve(name="x", steps=range(len(values)), values=values, smooth=True)], ident="x")
    )


def test_a_long_curve_stays_a_small_figure():
    line = Curve(name="x", steps=range(20000), values=[(step * 7919) % 101 for step in range(20000)], smooth=True)
    assert len(curves_over_steps("x", [line], ident="x")) < 60_000


def test_a_centered_mean_keeps_a_straight_line_and_does_not_lag():
    assert centered_mean([0.0, 3.0, 0.0, 3.0]) == [1.5, 1.0, 2.0, 1.5]
    assert centered_mean([1.0, 2.0, 3.0, 4.0])[1:-1] == [2.0, 3.0]
    assert centered_mean([7.0]) == [7.0]


def test_names_at_the_ends_of_curves_do_not_overlap_and_stay_inside():
    assert spread([0.2, 0.9], 0.1) == [0.2, 0.9]
    assert spread([0.5, 0.5], 0.25) == [0.5, 0.75]
    assert spread([1.0, 1.0, 0.98], 0.25) == [0.75, 1.0, 0.5]


def test_a_dozen_is_spread_from_the_first_to_the_last():
    assert evenly(range(100), 3) == [0, 50, 99]
    assert evenly(range(2), 12) == [0, 1]


def test_only_finite_numbers_are_drawn():
    assert [value for value in (1, 0.5, float("nan"), float("inf"), None, "x") if finite(value)] == [1, 0.5]
