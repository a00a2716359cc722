"""Texts of a run, a study or a model that are attempts at markup, on every page and in every figure."""

import json
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest
import yaml
from human_eval.study_files import write_system

from fires_exp.cli.human_eval import main
from fires_exp.report.page import write_page

ATTACK = '"\'></text></svg></script></title></style><script>alert(1)</script><img src=x onerror="alert(2)">{{ 7 * 191 }}'


class Tags(HTMLParser):
    """The tags of a page with their attributes, as a browser parses them."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def attacked(value, keep=()):
    """Every text of a file's facts with the attack at its end, but for those under the keys that say what is what."""
    if isinstance(value, dict):
        return {key: item if key in keep else attacked(item, keep) for key, item in value.items()}
    if isinstance(value, list):
        return [attacked(item, keep) for item in value]
    return value + ATTACK if isinstance(value, str) else value


def check(page):
    for tag, attributes in Tags(page).tags:
        assert tag not in ("img", "iframe", "object", "script")
        assert not any(name.startswith("on") for name in attributes)
    assert "<script>alert" not in page
    assert "1337" not in page, "the attack is a text, not a template"


# keys that select rows, and dates that are shortened; all other texts are attacked
KEEP = {
    "run.json": ("started",),
    "metrics.json": ("direction", "first", "second", "name", "teacher_aspect_shares", "backbone", "reward"),
    "metrics.jsonl": ("stage",),
    "thoughts.jsonl": ("example_id",),
    "completions.jsonl": (),
    "predictions/grpo.jsonl": ("id",),
    "predictions/sft.jsonl": ("id",),
    "frame_sensitivity.json": (),
}


@pytest.mark.parametrize("name", [*KEEP, "resolved.yaml", "all"])
def test_no_text_of_a_run_is_markup_on_its_page(run_folder, name):
    for path in KEEP if name == "all" else [name] if name in KEEP else []:
        file = run_folder / path
        lines = file.read_text().splitlines() if path.endswith("jsonl") else [file.read_text()]
        changed = [json.dumps(attacked(json.loads(line), KEEP[path])) for line in lines]
        file.write_text("\n".join(changed) + "\n")
    if name in ("resolved.yaml", "all"):
        file = run_folder / "resolved.yaml"
        tree = yaml.safe_load(file.read_text())
        tree["teacher"]["name"] += ATTACK
        tree["meadow"] = ATTACK
        file.write_text(yaml.safe_dump(tree))
    page = write_page(run_folder).read_text()
    check(page)
    assert ("&lt;script&gt;alert(1)" in page) or name in ("metrics.jsonl", "frame_sensitivity.json")


def test_names_of_metrics_and_policies_are_no_markup_either(run_folder):
    table = json.loads((run_folder / "metrics.json").read_text())
    for rows in table["policies"].values():
        rows[0]["name"] += ATTACK
    table["policies"][ATTACK] = table["policies"]["grpo"]
    table["comparisons"][0]["second"] = ATTACK
    table["absent"][0]["name"] += ATTACK
    table["name"] = ATTACK
    (run_folder / "metrics.json").write_text(json.dumps(table))
    check(write_page(run_folder).read_text())


def test_no_name_and_no_text_of_a_study_is_markup(tmp_path, cache):
    runs = [write_system(tmp_path / folder, name, cache) for folder, name in (("1", "gemstone"), ("2", "limestone"))]
    for run in runs:
        file = run / "predictions" / "grpo.jsonl"
        rows = [attacked(json.loads(line), ("id", "context")) for line in file.read_text().splitlines()]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    names = ["--names", f"ours{ATTACK}", f"theirs{ATTACK}"]
    assert main(["make", *map(str, runs), "--out", str(out), "--count", "2", "--seed", "1", *names]) == 0
    page = (out / "rate.html").read_text()
    tags = Tags(page).tags
    assert [tag for tag, _ in tags].count("script") == page.count("<script") == page.count("</script>") == 2, "the facts and ours"
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    assert "<script>alert" not in page
    key = json.loads((out / "key.json").read_text())
    ratings = {
        "format": "human-eval ratings 1",
        "study": key["study"],
        "rater": f"Ann{ATTACK}",
        "ratings": {"i001": {"support": "A"}},
    }
    (tmp_path / "ratings.json").write_text(json.dumps(ratings))
    assert main(["read", str(out / "key.json"), str(tmp_path / "ratings.json")]) == 0
    drawing = ElementTree.fromstring((out / "results.svg").read_text())
    kinds = "svg g rect text title path desc tspan defs clipPath"
    assert {element.tag.rpartition("}")[2] for element in drawing.iter()} <= set(kinds.split())
