"""The page of a run: everything that is there, nothing that is not, no text of a model as markup."""

import json
import re
from html.parser import HTMLParser

import pytest
from report.synthetic_run import write_run

from fires_exp.cli.report import main
from fires_exp.errors import DataError, StageError
from fires_exp.report.page import gather, in_words, write_page

SECTIONS = {
    "Metrics": "metrics",
    "Learning curves": "curves",
    "Aspects of thoughts": "shares",
    "Answers beside their references": "predictions",
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


def test_a_whole_run_shows_every_section(run_folder):
    page = page_of(run_folder)
    assert sections(page) == list(SECTIONS)
    assert "not a substitute for care or crisis help" in page
    assert "0.0312 nats a token" in page
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


def test_the_page_needs_nothing_from_outside(run_folder):
    page = page_of(run_folder)
    for tag, attributes in Page(page).tags:
        assert tag not in ("link", "script", "iframe")
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith("#")
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_links_and_references_lead_to_ids_that_are_there_once(run_folder):
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
def test_what_a_run_did_not_leave_leaves_its_section_out(run_folder, missing, gone):
    (run_folder / missing).unlink()
    assert sections(page_of(run_folder)) == [title for title in SECTIONS if title not in gone]


def test_a_run_that_has_only_begun_has_a_page(tmp_path):
    (tmp_path / "run.json").write_text('{"name": "early", "status": "running"}')
    page = page_of(tmp_path)
    assert "running, or stopped without a word" in page
    assert sections(page) == []


def test_a_zero_shot_run_shows_a_table_and_answers_only(tmp_path):
    folder = write_run(tmp_path, policies=("zero_shot",))
    for name in ("metrics.jsonl", "completions.jsonl", "thoughts.jsonl", "frame_sensitivity.json"):
        (folder / name).unlink()
    metrics = json.loads((folder / "metrics.json").read_text())
    del metrics["teacher_aspect_shares"], metrics["teacher"]
    (folder / "metrics.json").write_text(json.dumps(metrics))
    page = page_of(folder)
    assert sections(page) == ["Metrics", "Answers beside their references", "Stages"]
    assert 'best"' not in page


def test_an_error_that_ended_a_run_is_its_status(run_folder):
    change(run_folder / "run.json", status="TrainingError: the loss is <nan>")
    page = page_of(run_folder)
    assert '<p class="status bad">TrainingError: the loss is &lt;nan&gt;</p>' in page
    assert "this run did not finish" in page


def test_badges_say_what_a_reader_must_know(run_folder):
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


def test_what_the_recipe_does_not_make_is_not_shown(run_folder):
    path = run_folder / "resolved.yaml"
    text = path.read_text().replace("[synthesize, sft, grpo, evaluate]", "[synthesize, sft, evaluate]")
    path.write_text(text.replace("[zero_shot, sft, grpo]", "[zero_shot, sft]"))
    facts = gather(run_folder)
    assert facts.groups == ()
    assert {drawing.stage for drawing in facts.curves} == {"sft"}
    assert [answer.policy for answer in facts.predictions[0].answers] == ["zero-shot", "after SFT"]
    assert "reward" not in dict(facts.facts)


def test_predictions_are_told_apart_by_their_policy(run_folder):
    assert [line.stage for line in gather(run_folder).stages][3:] == [
        "predictions, zero-shot",
        "predictions, after SFT",
        "predictions, after GRPO",
    ]


def test_half_a_row_at_the_end_is_left_out_and_a_broken_one_before_it_is_one_line(run_folder, capsys):
    path = run_folder / "completions.jsonl"
    before = gather(run_folder).groups
    path.write_text(path.read_text() + '{"step": 13, "exam')
    assert gather(run_folder).groups == before
    path.write_text("{\n" + path.read_text())
    assert main([str(run_folder)]) == 2
    assert re.fullmatch(r"fires_exp: .*completions\.jsonl:1: no JSON .*\n", capsys.readouterr().err)


def test_a_broken_file_names_itself(run_folder):
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


def test_the_command_writes_the_page_and_says_where(run_folder, capsys):
    assert main([str(run_folder)]) == 0
    assert capsys.readouterr().out.strip() == str(run_folder / "report.html")


def test_a_folder_without_a_run_is_one_line(tmp_path, capsys):
    with pytest.raises(StageError, match=r"has no run\.json"):
        write_page(tmp_path)
    assert main([str(tmp_path)]) == 2
    assert re.fullmatch(r"fires_exp: .*\n", capsys.readouterr().err)


def test_durations_read_as_people_say_them():
    assert [in_words(seconds) for seconds in (0.4, 89.0, 600, 4000, 7620)] == [
        "0.4 s",
        "89.0 s",
        "10 min",
        "67 min",
        "2 h 07 min",
    ]
