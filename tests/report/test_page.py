"""The page of a run: a section for every file that exists, none for others, and no text of a model as markup."""

import json
import os
import re
from html.parser import HTMLParser

import pytest
from report.synthetic_run import sample_row, stage_entry, write_lines, write_run

from fires_exp.cli.report import main
from fires_exp.errors import DataError, StageError
from fires_exp.report import charts
from fires_exp.report.page import gather, in_words, write_page

SECTIONS = {
    "Metrics": "metrics",
    "Learning curves": "curves",
    "Aspects of thoughts": "shares",
    "Responses and their references": "predictions",
    "GRPO samples": "groups",
    "Stages": "stages",
}
EMPTY_ELEMENTS = ("meta", "br", "img", "path", "use", "rect")


class Page(HTMLParser):
    """Tags with their attributes, and whether each opened element is closed in turn."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY_ELEMENTS:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in EMPTY_ELEMENTS:
            assert self.open.pop() == tag


def page_of(folder):
    return write_page(folder).read_text()


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def sections(page):
    return [title for title in SECTIONS if re.search(rf"<h2 [^>]*>{title}</h2>", page)]


def test_a_finished_run_shows_every_section(run_folder):
    page = page_of(run_folder)
    assert sections(page) == list(SECTIONS)
    assert "not a substitute for care or crisis help" in page
    assert "0.0312 nats per token" in page
    assert "67 min" in page
    assert "In brackets the 95 % interval from 1000 resamples" in page
    assert "after GRPO − zero-shot" in page
    assert "<b>METEOR</b> is not in the table: WordNet is not there" in page
    assert page.count("<svg") == 16 + 3


def test_every_element_is_closed_in_turn(run_folder):
    assert Page(page_of(run_folder)).open == []


def test_text_of_models_and_datasets_is_never_markup(run_folder):
    page = page_of(run_folder)
    assert page.count("&lt;script&gt;alert(1)") == 4  # a context, a response, a thought, a sampled completion
    for tag, attributes in Page(page).tags:
        assert tag not in ("script", "img")
        assert not any(name.startswith("on") for name in attributes)


def test_the_page_loads_nothing(run_folder):
    page = page_of(run_folder)
    for tag, attributes in Page(page).tags:
        assert tag not in ("link", "script", "iframe")
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith("#")
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_links_and_references_lead_to_unique_ids(run_folder):
    tags = Page(page_of(run_folder)).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {attributes["href"][1:] for _, attributes in tags if "href" in attributes} <= set(ids)


def test_the_same_folder_gives_the_same_page(run_folder):
    assert page_of(run_folder) == page_of(run_folder)


@pytest.mark.parametrize(
    ("missing", "gone"),
    [
        ("metrics.json", ["Metrics"]),
        ("metrics.jsonl", ["Learning curves"]),
        ("completions.jsonl", ["GRPO samples"]),
        ("thoughts.jsonl", []),  # the table keeps the teacher's shares
        ("resolved.yaml", []),
        ("frame_sensitivity.json", []),
        ("predictions/sft.jsonl", []),
    ],
)
def test_a_missing_file_leaves_its_section_out(run_folder, missing, gone):
    (run_folder / missing).unlink()
    assert sections(page_of(run_folder)) == [title for title in SECTIONS if title not in gone]


def begin(folder, *states, metrics=(), samples=()):
    """A run under way: its stages in these states and what they have logged so far, nothing else."""
    names = ("thoughts", "sft", "grpo", "predictions")
    stages = [stage_entry(name, None, state, None) for name, state in zip(names, states, strict=True)]
    for stage in stages:
        if stage["state"] == "running":
            stage["started"] = "2026-01-31T12:03:00+00:00"
    record = {
        "name": "early",
        "status": "running",
        "started": "2026-01-31T12:00:00+00:00",
        "updated": "2026-01-31T12:03:00+00:00",
    }
    (folder / "run.json").write_text(json.dumps(record | {"stages": stages}))
    if metrics:
        write_lines(folder / "metrics.jsonl", metrics)
    if samples:
        write_lines(folder / "completions.jsonl", samples)
    return folder


def items(page):
    """The texts of the list of stages below the status."""
    (items,) = re.findall(r'<ol class="progress"[^>]*>(.*?)</ol>', page)
    return [re.sub("<[^>]+>", "", item) for item in re.findall("<li.*?</li>", items)]


def test_a_run_has_a_page_from_its_first_second(tmp_path):
    (tmp_path / "run.json").write_text('{"name": "early", "status": "running"}')
    assert sections(page_of(tmp_path)) == []
    page = page_of(begin(tmp_path, "running", "waiting", "waiting", "waiting"))
    assert sections(page) == ["Stages"]
    assert '<p class="status open">running</p>' in page
    assert "0 of 4 stages complete; last updated 2026-01-31 12:03:00 UTC" in page
    assert items(page) == ["thoughts running, since 2026-01-31 12:03 UTC", "sft waiting", "grpo waiting", "predictions waiting"]
    assert Page(page).open == []


def test_curves_and_samples_are_on_the_page_while_their_stage_runs(tmp_path):
    metrics = [{"stage": "sft", "step": 0, "sft/loss": 2.0}, {"stage": "grpo", "step": 0, "reward/total": 0.1}]
    samples = [sample_row(0, 0, index, 0.1 * index) for index in range(3)]
    folder = begin(tmp_path, "reused", "finished", "running", "waiting", metrics=metrics, samples=samples)
    page = page_of(folder)
    assert sections(page) == ["Learning curves", "GRPO samples", "Stages"]
    assert "2 of 4 stages complete; last logged: step 0 of grpo; last updated " in page
    before = page
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "grpo", "step": 1, "reward/total": 0.3}\n{"stage": "grpo", "st')  # the process is writing this line
    page = page_of(folder)
    assert "last logged: step 1 of grpo" in page
    assert "from 0.1 at step 0 to 0.3 at step 1" in page
    assert "from 0.1 at step 0 to 0.3 at step 1" not in before


def test_the_last_update_is_that_of_the_newest_file(tmp_path):
    folder = begin(tmp_path, "finished", "running", "waiting", "waiting", metrics=[{"stage": "sft", "step": 0, "sft/loss": 2.0}])
    os.utime(folder / "metrics.jsonl", (1769861000, 1769861000))
    assert "last updated 2026-01-31 12:03:20 UTC" in page_of(folder)
    os.utime(folder / "metrics.jsonl", (0, 0))
    assert "last updated 2026-01-31 12:03:00 UTC" in page_of(folder)


def test_only_the_page_of_a_running_run_reloads_itself(run_folder):
    refresh = '<meta http-equiv="refresh" content="20">'
    assert refresh not in page_of(run_folder)
    change(run_folder / "run.json", status="running")
    page = page_of(run_folder)
    assert refresh in page
    assert "did not finish" not in page
    change(run_folder / "run.json", status="KeyboardInterrupt")
    assert refresh not in page_of(run_folder)


def test_a_failed_run_shows_how_far_it_came(tmp_path):
    folder = begin(tmp_path, "finished", "failed", "waiting", "waiting", metrics=[{"stage": "sft", "step": 7, "sft/loss": 2.0}])
    stages = json.loads((folder / "run.json").read_text())["stages"]
    stages[1]["started"] = "2026-01-31T12:03:00+00:00"
    end = {"status": "TrainingError: nan", "finished": "2026-01-31T12:04:00+00:00", "stages": stages}
    change(folder / "run.json", **end)
    page = page_of(folder)
    assert '<p class="status bad">TrainingError: nan</p>' in page
    assert "1 of 4 stages complete; last logged: step 7 of sft</p>" in page
    assert items(page) == ["thoughts finished", "sft failed, 60.0 s", "grpo waiting", "predictions waiting"]
    assert sections(page) == ["Learning curves", "Stages"]


def test_a_finished_run_lists_its_stages_in_a_table_alone(run_folder):
    page = page_of(run_folder)
    assert '<ol class="progress"' not in page
    assert "stages complete" not in page
    assert '<th scope="row">grpo</th><td>finished</td><td class="number">37 min</td>' in page


def test_a_record_from_before_there_were_states_is_read_as_complete(run_folder):
    old = [{"stage": "sft", "key": "11", "folder": "f", "reused": True, "seconds": 3.0}]
    change(run_folder / "run.json", stages=[*old, {"stage": "grpo", "key": "7", "folder": "f", "reused": False, "seconds": 9.0}])
    assert [(line.label, line.state, line.took) for line in gather(run_folder).stages] == [
        ("sft", "reused", "3.0 s"),
        ("grpo", "finished", "9.0 s"),
    ]


def test_charts_of_finished_stages_are_not_drawn_again(run_folder, monkeypatch):
    write_page(run_folder)
    drawn = []
    true = charts.curves_over_steps
    monkeypatch.setattr(
        charts, "curves_over_steps", lambda title, *args, **named: drawn.append(title) or true(title, *args, **named)
    )
    write_page(run_folder)
    assert drawn == []
    with (run_folder / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "grpo", "step": 14, "grpo/entropy": 1.0}\n')
    write_page(run_folder)
    assert drawn == ["GRPO, Entropy"]


def test_a_zero_shot_run_shows_a_table_and_answers_only(tmp_path):
    folder = write_run(tmp_path, policies=("zero_shot",))
    for name in ("metrics.jsonl", "completions.jsonl", "thoughts.jsonl", "frame_sensitivity.json"):
        (folder / name).unlink()
    metrics = json.loads((folder / "metrics.json").read_text())
    del metrics["teacher_aspect_shares"], metrics["teacher"]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    page = page_of(folder)
    assert sections(page) == ["Metrics", "Responses and their references", "Stages"]
    assert 'best"' not in page


def test_an_error_that_ended_a_run_is_its_status(run_folder):
    change(run_folder / "run.json", status="TrainingError: the loss is <nan>")
    page = page_of(run_folder)
    assert '<p class="status bad">TrainingError: the loss is &lt;nan&gt;</p>' in page
    assert "this run did not finish" in page


def test_badges_list_the_caveats_of_a_run(run_folder):
    assert gather(run_folder).badges == (
        "thoughts by rules from labels, no model",
        "135M stand-in, de-quantized, vision tower trained from scratch",
        "invented sample corpus",
        "reward without its support-skill part",
        "a draw of at most 320 train, 40 test instances, not the whole corpus",
        "code edited after the commit",
    )
    change(run_folder / "metrics.json", scorer="sample scorer (minilm)")
    assert "support skills by a scorer of invented pairs, not EPITOME" in gather(run_folder).badges
    assert ("support skills read by", "sample scorer (minilm)") in gather(run_folder).facts
    others = {"backbone": "qwen2_5_vl_3b", "dataset": "mesc", "teacher": "other", "reward": "paper"}
    change(run_folder / "metrics.json", **others, scorer="EPITOME scorer (minilm)")
    (run_folder / "resolved.yaml").unlink()
    change(run_folder / "run.json", commit="0123")
    assert gather(run_folder).badges == ()


def test_a_table_of_an_earlier_run_in_the_folder_is_not_taken_for_this_one(run_folder):
    change(run_folder / "metrics.json", name="smoke", backbone="tiny")
    facts = gather(run_folder)
    assert facts.metrics is None
    assert facts.predictions == ()
    assert ("backbone", "smollm2_vl") in facts.facts
    assert facts.badges[-1] == "table and answers left out: they are of an earlier run in this folder (smoke, tiny)"


def test_stages_and_policies_that_are_not_planned_are_not_shown(run_folder):
    stages = json.loads((run_folder / "run.json").read_text())["stages"]
    planned = [stage for stage in stages if "grpo" not in stage["label"]]
    change(run_folder / "run.json", stages=planned)
    path = run_folder / "resolved.yaml"
    path.write_text(path.read_text().replace("[zero_shot, sft, grpo]", "[zero_shot, sft]"))
    facts = gather(run_folder)
    assert facts.groups == ()
    assert {group.stage for group in facts.curves} == {"sft"}
    assert [answer.policy for answer in facts.predictions[0].answers] == ["zero-shot", "after SFT"]
    assert "reward" not in dict(facts.facts)


def test_the_label_of_a_stage_names_its_policy(run_folder):
    assert [line.label for line in gather(run_folder).stages][3:] == [
        "predictions of zero_shot",
        "predictions of sft",
        "predictions of grpo",
    ]


def test_an_incomplete_last_row_is_left_out_and_a_broken_row_is_an_error(run_folder, capsys):
    path = run_folder / "completions.jsonl"
    before = gather(run_folder).groups
    path.write_text(path.read_text() + '{"step": 13, "exam')
    assert gather(run_folder).groups == before
    path.write_text("{\n" + path.read_text())
    assert main([str(run_folder)]) == 2
    assert re.fullmatch(r"fires_exp: .*completions\.jsonl:1: no JSON .*\n", capsys.readouterr().err)


def test_an_error_names_the_broken_file(run_folder):
    (run_folder / "thoughts.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"thoughts\.jsonl"):
        write_page(run_folder)
    (run_folder / "metrics.json").write_text("{")
    with pytest.raises(StageError, match=r"metrics\.json: no JSON"):
        write_page(run_folder)


def test_a_frame_sensitivity_of_zero_is_stated_in_capitals_and_none_is_left_out(run_folder):
    path = run_folder / "frame_sensitivity.json"
    change(path, nats_per_token=0.0)
    assert "FRAMES HAVE NO EFFECT" in gather(run_folder).frame_sensitivity
    path.write_text("null\n")
    assert gather(run_folder).frame_sensitivity == ""


def test_the_command_writes_the_page_and_prints_its_path(run_folder, capsys):
    assert main([str(run_folder)]) == 0
    assert capsys.readouterr().out.strip() == str(run_folder / "report.html")


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    with pytest.raises(StageError, match=r"has no run\.json"):
        write_page(tmp_path)
    assert main([str(tmp_path)]) == 2
    assert re.fullmatch(r"fires_exp: .*\n", capsys.readouterr().err)


def test_durations_are_in_seconds_minutes_or_hours():
    assert [in_words(seconds) for seconds in (0.4, 89.0, 600, 4000, 7620)] == [
        "0.4 s",
        "89.0 s",
        "10 min",
        "67 min",
        "2 h 07 min",
    ]
