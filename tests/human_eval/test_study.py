"""From two systems to a study: who is drawn, what raters see, what only the key knows."""

import base64
import html
import io
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from human_eval.study_files import ATTACK, change_line, write_system
from PIL import Image

from fires_exp.cli.human_eval import main
from fires_exp.errors import StudyError
from fires_exp.human_eval.files import read_key
from fires_exp.human_eval.form import form_facts
from fires_exp.human_eval.sampling import Draw, draw_study
from fires_exp.human_eval.study import QUESTIONS
from fires_exp.human_eval.systems import read_system

TEXT_ONLY = Draw(count=10, seed=42, full_history=False)


@pytest.fixture(scope="module")
def pattern(tmp_path_factory, cache):
    """Two runs, to be copied."""
    folder = tmp_path_factory.mktemp("pattern")
    for folder_name, name in (("1", "gemstone"), ("2", "limestone")):
        write_system(folder / folder_name, name, cache)
    return folder


@pytest.fixture
def runs(tmp_path, pattern):
    return [str(shutil.copytree(pattern / name, tmp_path / name)) for name in ("1", "2")]


@pytest.fixture
def systems(runs):
    return [read_system(run) for run in runs]


def predictions(run):
    return Path(run) / "predictions" / "grpo.jsonl"


def make(runs, out, *more, count=10):
    return main(["make", *runs, "--out", str(out), "--count", str(count), "--seed", "42", *more])


def facts_of(page):
    return json.loads(re.search(r'<script type="application/json" id="study">(.*?)</script>', page, re.DOTALL)[1])


def test_a_study_is_drawn_by_its_seed_from_what_both_answered(systems):
    first, second = systems
    study, key = draw_study(first, second, TEXT_ONLY)
    assert draw_study(first, second, TEXT_ONLY) == (study, key)
    instances = [item.instance for item in key.items.values()]
    assert len(set(instances)) == 10
    assert set(instances) <= first.predictions.keys() & second.predictions.keys()
    other, other_key = draw_study(first, second, Draw(count=10, seed=43, full_history=False))
    assert [item.instance for item in other_key.items.values()] != instances
    assert other.id != study.id


def test_each_system_stands_on_each_side_as_often_and_the_key_says_where(systems):
    study, key = draw_study(*systems, TEXT_ONLY)
    assert sorted(item.side_a for item in key.items.values()) == ["first"] * 5 + ["second"] * 5
    for item in study.items:
        instance = key.items[item.name]
        system = systems[0] if instance.side_a == "first" else systems[1]
        assert item.answers["A"].response == system.predictions[instance.instance].response
        assert item.answers["A"].response != item.answers["B"].response


def test_a_verdict_is_a_win_where_the_first_system_stands_on_the_chosen_side(systems):
    _, key = draw_study(*systems, TEXT_ONLY)
    for name, item in key.items.items():
        wins, loses = ("A", "B") if item.side_a == "first" else ("B", "A")
        assert [key.outcome(name, wins), key.outcome(name, loses), key.outcome(name, "tie")] == ["win", "lose", "tie"]


def test_thoughts_are_asked_about_where_both_systems_think(tmp_path, cache, systems):
    study, _ = draw_study(*systems, TEXT_ONLY)
    assert study.questions == QUESTIONS
    silent = read_system(str(write_system(tmp_path / "3", "silent", cache, thinks=False)))
    study, key = draw_study(systems[0], silent, TEXT_ONLY)
    assert key.questions == ("support", "preference")
    assert not any(question.about == "thought" for question in study.questions)


def test_the_history_is_read_again_with_the_frames_that_the_runs_showed(systems):
    study, key = draw_study(*systems, Draw(count=30, seed=42, full_history=True))
    for item in study.items:
        assert item.history[-1].text == systems[0].predictions[key.items[item.name].instance].context
    assert max(len(item.history) for item in study.items) > 2
    frames = [frame for item in study.items for turn in item.history for frame in turn.frames]
    assert frames
    shown = Image.open(io.BytesIO(frames[0]))
    assert shown.format == "JPEG"
    assert shown.width * shown.height <= 320 * 241


def test_a_run_without_video_is_judged_beside_the_frames_of_the_other(tmp_path, cache, systems):
    blind = read_system(str(write_system(tmp_path / "3", "blind", cache, "frames=none")))
    draw = Draw(count=30, seed=42, full_history=True)
    for pair in ((blind, systems[1]), (systems[0], blind)):
        assert any(turn.frames for item in draw_study(*pair, draw)[0].items for turn in item.history)


def test_a_frame_that_several_instances_show_is_on_the_page_once(systems):
    study, _ = draw_study(*systems, Draw(count=30, seed=42, full_history=True))
    facts = form_facts(study)
    shown = [index for item in facts["items"] for turn in item["history"] for index in turn["frames"]]
    assert set(shown) == set(range(len(facts["frames"])))
    assert len(shown) > len(facts["frames"])
    assert base64.b64decode(facts["frames"][0].removeprefix("data:image/jpeg;base64,")).startswith(b"\xff\xd8")


def test_the_page_holds_no_name_of_a_system_and_nothing_of_the_key(tmp_path, runs):
    assert make(runs, tmp_path / "study") == 0
    page = (tmp_path / "study" / "rate.html").read_text()
    key = read_key(tmp_path / "study" / "key.json")
    assert key.systems == {"first": "gemstone (grpo)", "second": "limestone (grpo)"}
    for secret in (
        "gemstone",
        "limestone",
        "grpo",
        'first"',
        'second"',
        str(tmp_path),
        *(i.instance for i in key.items.values()),
    ):
        assert secret not in page
    assert [item["name"] for item in facts_of(page)["items"]] == list(key.items) == [f"i{index:03d}" for index in range(1, 11)]


def test_texts_on_the_page_are_never_markup_and_it_may_load_nothing(tmp_path, runs):
    for index in range(35):
        change_line(predictions(runs[0]), index, response=ATTACK)
    make(runs, tmp_path / "study")
    page = (tmp_path / "study" / "rate.html").read_text()
    assert page.count("<script") == page.count("</script>") == 2
    assert "<img src=x" not in page
    assert ATTACK in {answer["response"] for item in facts_of(page)["items"] for answer in item["answers"].values()}
    assert "default-src 'none'" in html.unescape(page)
    assert "unsafe" not in page
    assert not re.search(r"""(?:src|href)=["']?(?:https?:|//)""", page)


def test_a_run_folder_means_its_last_policy_and_a_colon_names_another(tmp_path, cache):
    run = write_system(tmp_path / "run=1,beta=0.1", "gemstone", cache, policies=("zero_shot", "sft", "grpo"))
    assert read_system(str(run)).name == "gemstone (grpo)"
    assert read_system(f"{run}:zero_shot").name == "gemstone (zero_shot)"
    assert read_system(str(run / "predictions" / "sft.jsonl")).name == "gemstone (sft)"
    with pytest.raises(StudyError, match=r":POLICY, POLICY being one of grpo, sft, zero_shot"):
        read_system(f"{run}:dpo")


def test_a_file_outside_any_run_is_compared_by_the_other_s_history(tmp_path, runs):
    alone = tmp_path / "api_model.jsonl"
    alone.write_text(predictions(runs[1]).read_text())
    assert make([runs[0], str(alone)], tmp_path / "study") == 0
    assert read_key(tmp_path / "study" / "key.json").systems["second"] == "api_model"
    assert max(len(item["history"]) for item in facts_of((tmp_path / "study" / "rate.html").read_text())["items"]) > 1


def test_without_any_run_the_last_turn_is_shown_when_that_is_asked_for(tmp_path, runs, capsys):
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for file, run in zip(files, runs, strict=True):
        file.write_text(predictions(run).read_text())
    assert make(list(map(str, files)), tmp_path / "study") == 2
    assert "write --context-only" in capsys.readouterr().err
    assert make(list(map(str, files)), tmp_path / "study", "--context-only") == 0
    assert {len(item["history"]) for item in facts_of((tmp_path / "study" / "rate.html").read_text())["items"]} == {1}


def test_a_run_of_an_older_version_is_enough_if_its_configuration_has_the_dataset(tmp_path, runs, capsys):
    for run in runs:
        path = Path(run) / "resolved.yaml"
        tree = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({key: value for key, value in tree.items() if key not in ("grpo", "reward", "trainer")}))
    assert make(runs, tmp_path / "study") == 0
    del tree["frames"]["max_frames"]
    path.write_text(yaml.safe_dump(tree))
    assert make(runs, tmp_path / "other") == 2
    assert re.fullmatch(r"fires_exp: .*resolved\.yaml .*max_frames.*\n", capsys.readouterr().err)
    path.write_text("- x\n")
    assert make(runs, tmp_path / "other") == 2
    assert re.fullmatch(r"fires_exp: .*resolved\.yaml: no YAML of a run.*\n", capsys.readouterr().err)


def test_a_key_is_never_overwritten_by_another_study_s(tmp_path, runs, capsys):
    out = tmp_path / "study"
    assert make(runs, out) == make(runs, out) == 0
    before = (out / "key.json").read_text()
    assert make(runs, out, count=9) == 2
    assert "choose another --out" in capsys.readouterr().err
    assert (out / "key.json").read_text() == before


def test_names_may_be_given(tmp_path, runs):
    make(runs, tmp_path / "study", "--names", "FIRES", "w/o RL")
    assert read_key(tmp_path / "study" / "key.json").systems == {"first": "FIRES", "second": "w/o RL"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda runs: runs.__setitem__(1, "nowhere"), "nowhere: no such file or folder"),
        (lambda runs: runs.__setitem__(1, runs[0]), "hold the same predictions"),
        (lambda runs: predictions(runs[0]).write_text("{\n"), "grpo.jsonl:1: no JSON"),
        (lambda runs: predictions(runs[0]).write_text("[]\n"), 'grpo.jsonl:1: a prediction needs "id" and "response"'),
        (lambda runs: change_line(predictions(runs[0]), 3, response=None), "grpo.jsonl:4: a prediction needs"),
        (lambda runs: change_line(predictions(runs[0]), 1, id="sample-16-5"), "instance sample-16-5 "),
        (lambda runs: predictions(runs[0]).write_text('{"id": "x", "response": "y"}\n'), "share 0 instances; name two systems"),
        (lambda runs: predictions(runs[0]).unlink(), "has no predictions/*.jsonl"),
        (lambda runs: [change_line(predictions(runs[0]), index, context="x") for index in range(35)], "answers different turns"),
        (
            lambda runs: [change_line(predictions(run), index, context="x") for run in runs for index in range(35)],
            "differs in the dataset",
        ),
        (
            lambda runs: [change_line(predictions(run), index, id=f"x-{index}") for run in runs for index in range(35)],
            "is not in the dataset",
        ),
    ],
)
def test_what_is_wrong_with_two_systems_is_one_line(tmp_path, runs, capsys, change, message):
    change(runs)
    assert make(runs, tmp_path / "study") == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"fires_exp: .*\n", error)
    assert message in error
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("count", [0, 36])
def test_more_instances_than_there_are_cannot_be_drawn(tmp_path, runs, capsys, count):
    assert make(runs, tmp_path / "study", count=count) == 2
    assert f"--count {count}" in (error := capsys.readouterr().err)
    assert "share 35 instances; write a number from 1 to 35" in error
