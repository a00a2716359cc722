"""The tables, cards, groups and charts of the page."""

import json

from report.synthetic_run import comparison, prediction, sample_row, training_rows

from fires_exp.report.charts import learning_curves, share_plots
from fires_exp.report.sections import comparisons_on_page, metrics_on_page, prediction_cards, sample_groups
from fires_exp.report.tables import best_value, evaluation_text, metrics_table
from fires_exp.thinking.aspects import Aspect
from fires_exp.thinking.thought import Thought

RESAMPLING = {"bootstrap_samples": 1000, "confidence": 0.95}


def metric(name, value, direction="higher", tokens="words"):
    return {"name": name, "value": value, "direction": direction, "tokens": tokens, "version": "1", "count": 3}


def test_the_best_value_is_marked_unless_the_metric_has_no_direction():
    table = metrics_on_page(
        {
            "zero_shot": [metric("BLEU-2", 1.0), metric("Words", 9, "none", "-")],
            "grpo": [metric("BLEU-2", 2.0), metric("Words", 8, "none", "-")],
        }
    )
    assert table.policies == ("zero-shot", "after GRPO")
    assert [[(cell.text, cell.best) for cell in line.cells] for line in table.lines] == [
        [("1.00", False), ("2.00", True)],
        [("9.00", False), ("8.00", False)],
    ]
    assert [line.arrow for line in table.lines] == ["↑", ""]


def test_an_interval_follows_its_number_where_the_table_has_one():
    rows = [metric("BLEU-2", 1.0) | {"low": 0.46, "high": 2.0}, metric("Words", 9, "none", "-")]
    lines = metrics_on_page({"sft": rows}).lines
    assert [line.cells[0].interval for line in lines] == ["[0.5, 2.0]", ""]
    text = metrics_table({"sft": rows})
    assert "1.00  [0.5, 2.0]" in text
    assert text.count("[") == 1


def test_a_difference_has_its_p_value_and_is_marked_below_five_percent():
    rows = [comparison("BLEU-2", "zero_shot", "sft", 4.08, 0.002), comparison("BLEU-2", "sft", "grpo", -1.02, 0.174)]
    table = comparisons_on_page([*rows, comparison("METEOR", "zero_shot", "sft", 1.0, 0.05)])
    assert table.pairs == (("after SFT", "zero-shot"), ("after GRPO", "after SFT"))
    assert [[(p, cell.text, cell.interval, cell.best) for p, cell in line.cells] for line in table.lines] == [
        [("0.002", "+4.08", "[2.6, 5.6]", True), ("0.174", "-1.02", "[-2.5, 0.5]", False)],
        [("0.050", "+1.00", "[-0.5, 2.5]", False), ("", "–", "", False)],
    ]
    assert comparisons_on_page([]) is None
    text = evaluation_text({"policies": {"sft": [metric("BLEU-2", 1.0)]}, "comparisons": rows, "absent": [], **RESAMPLING})
    assert text.split("\n\n")[1].splitlines() == [
        "difference, p-value  sft vs zero_shot     grpo vs sft",
        "-----------------------------------------------------",
        "BLEU-2                 +4.08  p 0.002  -1.02  p 0.174",
    ]


def test_a_missing_metric_is_listed_below_the_table_with_its_reason():
    absent = [{"name": "METEOR", "reason": "run: this"}]
    text = evaluation_text({"policies": {"a": [metric("BLEU-2", 1.0)]}, "comparisons": [], "absent": absent, **RESAMPLING})
    assert text.splitlines()[-1] == "METEOR is not in the table: run: this"


def test_metrics_counted_alike_share_a_footnote():
    table = metrics_on_page({"sft": [metric("a", 1.0), metric("b", 1.0, tokens="-"), metric("c", 1.0)]})
    assert [line.note for line in table.lines] == ["a", "b", "a"]
    assert table.notes == (("a", "1, words: words"), ("b", "1"))


def test_a_metric_that_a_policy_lacks_is_a_dash():
    table = metrics_on_page({"zero_shot": [metric("a", 1.0)], "sft": [metric("a", 2.0), metric("b", 1.0)]})
    assert [cell.text for cell in table.lines[1].cells] == ["–", "1.00"]
    assert metrics_on_page({}) is None


def test_a_chart_is_drawn_for_what_was_logged_and_only_of_numbers():
    assert learning_curves([]) == ()
    rows = [{"stage": "sft", "step": step, "sft/loss": value} for step, value in enumerate([2.0, float("nan"), None, 1.0])]
    (group,) = learning_curves([*rows, {"stage": "sft", "step": 4, "sft/grad_norm": float("inf")}])
    (plot,) = group.plots
    assert (group.stage, plot.title) == ("sft", "Loss")
    assert "from 2 at step 0 to 1 at step 3" in plot.svg


def test_charts_are_grouped_by_stage():
    class Steady:
        gauss = staticmethod(lambda mean, spread: mean)
        random = staticmethod(lambda: 0.5)

    groups = learning_curves(training_rows(Steady))
    assert [(group.stage, len(group.plots)) for group in groups] == [("sft", 3), ("grpo", 13)]


def test_shares_are_of_well_formed_thoughts_and_their_note_has_the_counts():
    rows = [prediction("sft", index) for index in range(7)]
    (plot,) = share_plots([], {}, {"sft": rows, "zero_shot": [prediction("zero_shot", 0)]}, ident="s")
    assert (plot.title, plot.note) == ("after SFT", "6 well-formed thoughts of 7 completions")


def test_the_teachers_shares_come_from_its_thoughts_else_from_the_table():
    thoughts = [Thought(aspects={Aspect.EMOTION: "sadness"}), Thought(prose="hm")]
    (plot,) = share_plots(thoughts, {}, {}, ident="s")
    assert "Emotion 50 % included, 50 % omitted" in plot.svg
    (plot,) = share_plots([], {"Emotion": {"included": 1.0}}, {}, ident="s")
    assert "Emotion 100 % included" in plot.svg


def test_cards_are_spread_evenly_and_skip_a_policy_that_has_not_answered():
    rows = [prediction("sft", index) for index in range(40)]
    cards = prediction_cards({"zero_shot": [prediction("zero_shot", 0)], "sft": rows}, None)
    assert len(cards) == 12
    assert (cards[0].id, cards[-1].id) == (rows[0]["id"], rows[-1]["id"])
    assert [len(card.answers) for card in cards] == [2] + [1] * 11
    assert prediction_cards({}, None) == prediction_cards({"sft": []}, None) == ()


def test_a_malformed_and_a_truncated_answer_are_marked():
    (card,) = prediction_cards({"zero_shot": [prediction("zero_shot", 1)]}, None)
    assert (card.answers[0].well_formed, card.answers[0].cut_off) == (False, True)


def test_samples_are_those_of_the_first_and_last_step_best_first():
    rows = [sample_row(step, group, index, 0.1 * index) for step in (0, 5, 9) for group in range(3) for index in range(4)]
    groups = sample_groups(rows)
    assert [group.step for group in groups] == [0, 0, 9, 9]
    assert [(sample.rank, sample.open) for sample in groups[0].samples] == [
        ("best", True),
        ("", False),
        ("", False),
        ("worst", True),
    ]
    assert [name for name, _ in groups[0].samples[0].parts] == ["format", "consistency"]


def test_a_tied_group_has_no_best_sample():
    (group,) = sample_groups([sample_row(0, 0, index, 0.2) for index in range(3)])
    assert group.tied
    assert [(sample.rank, sample.open) for sample in group.samples] == [("", True), ("", False), ("", False)]


def test_rows_survive_a_round_through_json():
    row = sample_row(0, 0, 0, 0.2)
    assert sample_groups([json.loads(json.dumps(row))]) == sample_groups([row])


def test_the_table_in_the_terminal_lines_up_and_marks_the_best():
    text = metrics_table({"a": [metric("BLEU-2", 1.0)], "b": [metric("BLEU-2", 12.5)]})
    assert text.splitlines()[-1] == "BLEU-2 ↑  1.00   12.50*"
    assert best_value([metric("x", 1.0, "lower"), metric("x", 2.0, "lower")]) == 1.0
    assert best_value([metric("x", 1.0), metric("x", 1.0)]) is None
