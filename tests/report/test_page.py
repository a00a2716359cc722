"""The page of a run: everything that is there, nothing that is not, no text of a model as markup."""

import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest

from fires_exp.errors import StageError
from fires_exp.report.__main__ import main
from fires_exp.report.figures import Line, curves, running_mean, stacked_shares
from fires_exp.report.page import evenly, sample_groups, write_page
from fires_exp.report.tables import best_value, metrics_table

ATTACK = '<script>alert(1)</script><img src=x onerror="alert(2)">'


def metric(name, value, direction="higher"):
    return {"name": name, "value": value, "direction": direction, "tokens": "words", "version": "1", "count": 3}


def write_lines(path, rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def run_folder(tmp_path):
    """As a whole run leaves it."""
    run = {
        "name": "demo",
        "status": "finished",
        "started": "2026-01-31T12:00:00+00:00",
        "seed": 42,
        "commit": "0123456789abcdef",
        "python": "3.11",
        "machine": "x86_64",
        "versions": {"torch": "2"},
        "seconds": 600.0,
        "peak_memory_bytes": 3e9,
        "peak_gpu_memory_bytes": None,
        "stages": [{"stage": "sft", "key": "k", "folder": "f", "reused": True, "seconds": 60.0}],
    }
    metrics = {
        "name": "demo",
        "dataset": "sample",
        "split": "test",
        "instances": 3,
        "backbone": "smollm2_vl",
        "reward": "wo_support_skill",
        "teacher": "annotations",
        "policies": {
            "zero_shot": [metric("BLEU-2", 1.0), metric("Words", 9, "none")],
            "grpo": [metric("BLEU-2", 2.0), metric("Words", 8, "none")],
        },
    }
    (tmp_path / "run.json").write_text(json.dumps(run))
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    (tmp_path / "resolved.yaml").write_text("name: demo\n")
    steps = [{"stage": "sft", "step": step, "sft/loss": 3.0 / (1 + step)} for step in range(5)]
    steps += [
        {"stage": "grpo", "step": step, "reward/total": 0.1 * step, "reward/format": 1.0, "grpo/kl": 0.01} for step in range(3)
    ]
    write_lines(tmp_path / "metrics.jsonl", steps)
    answers = [
        {
            "id": f"x-{place}",
            "completion": "",
            "thought": f"Emotion: {ATTACK}",
            "response": ATTACK,
            "well_formed": place != 2,
            "finish_reason": "length" if place == 2 else "stop",
            "context": ATTACK,
            "reference_response": f"reference {place}",
        }
        for place in range(3)
    ]
    for policy in ("zero_shot", "grpo"):
        write_lines(tmp_path / "predictions" / f"{policy}.jsonl", answers)
    samples = [
        {
            "step": step,
            "example_id": "x",
            "place": place,
            "reward": 0.1 * place,
            "reward_format": 1.0,
            "finish_reason": "stop",
            "completion": ATTACK,
            "reference_response": "r",
        }
        for step in (0, 9)
        for place in range(4)
    ]
    write_lines(tmp_path / "completions.jsonl", samples)
    thought = {"example_id": "x", "plan": "flexible", "teacher": "annotations", "prompt_hash": "h", "created": "c", "prose": ""}
    write_lines(tmp_path / "thoughts.jsonl", [thought | {"aspects": {"emotion": "neutral", "situation": "Unknown"}}])
    return tmp_path


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def tags_of(page):
    parser = Tags()
    parser.feed(page)
    return parser.found


def test_a_whole_run_shows_every_section(run_folder):
    page = write_page(run_folder).read_text()
    for title in (
        "Metrics",
        "Learning curves",
        "Aspects of thoughts",
        "Answers beside their references",
        "GRPO samples",
        "Stages",
    ):
        assert f"<h2>{title}</h2>" in page
    assert "written by rules" in page
    assert "no substitute for care" in page


def test_text_of_models_and_datasets_is_never_markup(run_folder):
    page = write_page(run_folder).read_text()
    assert "alert(1)" in page
    for tag, attributes in tags_of(page):
        assert tag not in ("script", "img")
        assert not any(name.startswith("on") for name in attributes)


def test_the_page_needs_nothing_from_outside(run_folder):
    page = write_page(run_folder).read_text()
    for tag, attributes in tags_of(page):
        assert tag != "link"
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith("#")
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


@pytest.mark.parametrize(
    "missing", ["metrics.json", "metrics.jsonl", "completions.jsonl", "thoughts.jsonl", "resolved.yaml", "predictions"]
)
def test_what_a_run_did_not_leave_leaves_its_section_out(run_folder, missing):
    path = run_folder / missing
    if path.is_dir():
        for file in path.iterdir():
            file.unlink()
    else:
        path.unlink()
    assert "<html" in write_page(run_folder).read_text()


def test_the_better_value_stands_out_and_a_description_never_does(run_folder):
    page = write_page(run_folder).read_text()
    assert '<td class="number best">2.00</td>' in page
    assert page.count('number best"') == 1


def test_ids_are_unique_on_the_page(run_folder):
    ids = [attributes["id"] for _, attributes in tags_of(write_page(run_folder).read_text()) if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_same_folder_gives_the_same_page(run_folder):
    assert write_page(run_folder).read_text() == write_page(run_folder).read_text()


def test_figures_are_whole_svg_with_a_text_for_those_who_do_not_see_them():
    for svg in (
        curves("Loss", [Line(name="train", steps=[0, 1], values=[2.0, 1.0])], ident="a", smooth=True),
        stacked_shares({"Emotion": {"included": 0.5, "omitted": 0.5}}, "Teacher", ident="b"),
    ):
        root = ElementTree.fromstring(svg)
        assert root.attrib["role"] == "img"
        assert root.attrib["aria-label"]


def test_a_running_mean_starts_at_the_first_value():
    assert running_mean([1.0, 0.0, 0.0]) == pytest.approx([1.0, 0.65, 0.4225])


def test_samples_are_those_of_the_first_and_last_step_with_the_best_and_worst_marked(run_folder):
    rows = [json.loads(line) for line in (run_folder / "completions.jsonl").read_text().splitlines()]
    groups = sample_groups(rows)
    assert [group["step"] for group in groups] == [0, 9]
    assert [row["place_in_group"] for row in groups[0]["rows"]] == ["low", "", "", "high"]


def test_a_dozen_is_spread_from_the_first_to_the_last():
    assert evenly(range(100), 3) == [0, 50, 99]
    assert evenly(range(2), 12) == [0, 1]


def test_the_table_in_the_terminal_lines_up_and_marks_the_best():
    text = metrics_table({"a": [metric("BLEU-2", 1.0)], "b": [metric("BLEU-2", 12.5)]})
    assert text.splitlines()[-1] == "BLEU-2 ↑  1.00   12.50*"
    assert best_value([metric("x", 1.0, "lower"), metric("x", 2.0, "lower")]) == 1.0
    assert best_value([metric("x", 1.0), metric("x", 1.0)]) is None


def test_a_folder_without_a_run_is_one_line(tmp_path, capsys):
    with pytest.raises(StageError, match=r"has no run\.json"):
        write_page(tmp_path)
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("fires_exp: ")
