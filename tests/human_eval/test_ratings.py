"""From ratings to rates, intervals and agreement, with numbers that a reader can check."""

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict
from pathlib import Path

import pytest

from fires_exp.cli.human_eval import main
from fires_exp.human_eval.agreement import cohens_kappa, krippendorffs_alpha, observed_agreement
from fires_exp.human_eval.files import KEY_FORMAT, Ratings, write_ratings
from fires_exp.human_eval.results import sign_test, study_result, wilson
from fires_exp.human_eval.study import Key, KeyItem
from fires_exp.human_eval.tables import as_markdown, as_text, read_printed, read_results

# items 1 to 10; the first system is on side A of the odd ones
KEY = Key(
    study="0123456789ab",
    seed=42,
    systems={"first": "FIRES", "second": "w/o RL"},
    files={"first": "a.jsonl", "second": "b.jsonl"},
    questions=("support", "preference"),
    items={f"i{index:03d}": KeyItem(instance=f"x-{index}", side_a="first" if index % 2 else "second") for index in range(1, 11)},
)
SIDES = {"win": "AB", "lose": "BA"}


def rater(name, **questions):
    """`support="wwlt"`: what the first system's outcome on each item was; a dot is an item that was not rated."""
    words = {"w": "win", "l": "lose"}
    verdicts = {}
    for question, letters in questions.items():
        for index, letter in enumerate(letters, start=1):
            if letter != ".":
                side = "tie" if letter == "t" else SIDES[words[letter]][(index + 1) % 2]
                verdicts[f"i{index:03d}", question] = side
    return Ratings(rater=name, verdicts=verdicts)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "key.json").write_text(json.dumps({"format": KEY_FORMAT, **asdict(KEY)}))
    return tmp_path


def write(folder, *raters):
    paths = [folder / f"{ratings.rater}.json" for ratings in raters]
    for path, ratings in zip(paths, raters, strict=True):
        write_ratings(path, KEY.study, ratings)
    return paths


def read(folder, paths):
    return main(["read", str(folder / "key.json"), *map(str, paths)])


def test_rates_are_of_the_first_system_whichever_side_it_stood_on():
    (support,) = study_result(KEY, [rater("ann", support="wwwwwltttt")]).questions
    assert {outcome: rate.value for outcome, rate in support.rates.items()} == {"win": 0.5, "tie": 0.4, "lose": 0.1}
    assert (support.instances, support.verdicts) == (10, 10)
    assert support.p_value == sign_test(5, 1) == 2 * (1 + 6) / 64


def test_an_instance_counts_once_however_many_rated_it():
    (support,) = study_result(
        KEY, [rater("ann", support="wwlt"), rater("bob", support="wtl."), rater("cyd", support="w...")]
    ).questions
    # (1 + 1/2 + 0 + 0) of 4 wins, (0 + 1/2 + 0 + 1) of 4 ties, one loss
    assert {outcome: rate.value for outcome, rate in support.rates.items()} == {"win": 0.375, "tie": 0.375, "lose": 0.25}
    assert (support.instances, support.verdicts) == (4, 8)
    assert support.p_value == sign_test(2, 1)


def test_two_raters_who_contradict_each_other_decide_nothing():
    (support,) = study_result(KEY, [rater("ann", support="wwwwww"), rater("bob", support="llllll")]).questions
    assert support.p_value == 1.0
    assert support.rates["win"].value == support.rates["lose"].value == 0.5
    assert support.agreement == 0.0


def test_wilson_s_interval_is_the_textbook_s_and_never_leaves_0_to_1():
    # e.g. Newcombe (1998), table I: 81/263, 15/148, 0/20, 1/29
    for successes, trials, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        rate = wilson(successes, trials)
        assert (round(rate.low, 4), round(rate.high, 4)) == (low, high)
    assert wilson(20, 20).high == 1.0


def test_the_sign_test_counts_outcomes_at_least_as_uneven():
    assert sign_test(0, 0) == sign_test(3, 3) == 1.0
    assert sign_test(5, 0) == sign_test(0, 5) == 2 / 32
    assert sign_test(8, 2) == 2 * (1 + 10 + 45) / 1024
    assert sign_test(4000, 1000) < 1e-100


def test_kappa_is_what_a_hand_reckons():
    # 50 applications read by two: 20 yes-yes, 15 no-no, 5 and 10 apart; observed 0.7, by chance 0.5
    ann = ["A"] * 25 + ["B"] * 25
    bob = ["A"] * 20 + ["B"] * 5 + ["A"] * 10 + ["B"] * 15
    raters = [dict(enumerate(labels)) for labels in (ann, bob)]
    assert cohens_kappa(raters) == pytest.approx(0.4)
    assert observed_agreement(raters) == 0.7


def test_kappa_is_of_two_raters_and_of_what_both_rated():
    both = [{1: "A", 2: "B", 3: "A"}, {1: "A", 2: "B", 4: "tie"}]
    assert cohens_kappa(both) == 1.0
    assert cohens_kappa([*both, {1: "A"}]) is None
    assert cohens_kappa(both[:1]) is None
    assert cohens_kappa([{1: "A"}, {2: "B"}]) is None
    assert cohens_kappa([{1: "tie", 2: "tie"}, {1: "tie", 2: "tie"}]) is None


def test_alpha_is_that_of_krippendorff_s_example_of_four_raters_with_gaps():
    # Krippendorff (2011), "Computing Krippendorff's alpha-reliability", example C: nominal alpha 0.743
    rows = ("123321412...", "1233224125.3", ".3332342251.", "12332441251.")
    raters = [{unit: label for unit, label in enumerate(row) if label != "."} for row in rows]
    assert krippendorffs_alpha(raters) == pytest.approx(0.743, abs=0.0005)
    assert cohens_kappa(raters) is None


def test_alpha_needs_pairs_and_variety():
    assert krippendorffs_alpha([{1: "A"}]) is None
    assert krippendorffs_alpha([{1: "A"}, {2: "B"}]) is None
    assert krippendorffs_alpha([{1: "A", 2: "A"}, {1: "A", 2: "A", 3: "B"}]) is None


def test_one_command_writes_table_and_figure(folder, capsys):
    paths = write(
        folder, rater("ann", support="wwwwwltttt", preference="wwtt"), rater("bob", support="wwwwllttt.", preference="wwtt")
    )
    assert read(folder, paths) == 0
    out = capsys.readouterr().out
    assert "FIRES against w/o RL: 10 instances, 2 raters (complete: 4 and 4)" in out
    # both rated nine instances, 8 alike; chance (5 x 4 + 1 x 2 + 3 x 3) / 81 = 31 / 81, so kappa = (72 - 31) / (81 - 31) = 0.82
    assert re.search(r"support +45\.0 \[.*\] +40\.0 \[.*\] +15\.0 \[.*\] +0\.375 +10 +0\.89 +0\.82 +0\.83", out)
    assert re.search(r"preference +50\.0 \[15\.0, 85\.0\] .* +0\.500 +4 +1\.00 +1\.00 +1\.00", out)
    facts = json.loads((folder / "results.json").read_text())
    assert facts["questions"][0]["rates"]["win"]["value"] == 0.45
    assert (folder / "results.md").read_text().count("\n| ") == 4
    figure = ElementTree.fromstring((folder / "results.svg").read_text())
    assert figure.attrib["aria-label"] == (
        "FIRES against w/o RL: support 45 % win, 40 % tie, 15 % lose; preference 50 % win, 50 % tie"
    )
    assert {"win", "tie", "lose", "support"} <= {text.strip() for text in figure.itertext()}


def test_results_are_read_back_as_they_were_written(folder):
    raters = (rater("ann", support="wwl"), rater("bob", support="wt"))
    assert read(folder, write(folder, *raters)) == 0
    assert read_results(folder) == study_result(KEY, raters)


def test_questions_without_an_answer_are_left_out(folder):
    assert [of.question for of in study_result(KEY, [rater("ann", preference="w")]).questions] == ["preference"]
    assert study_result(KEY, [rater("ann")]).questions == ()


def test_several_studies_stand_in_one_figure(folder, capsys):
    read(folder, write(folder, rater("ann", support="wwlt")))
    other = folder / "other"
    other.mkdir()
    key = asdict(KEY) | {"format": KEY_FORMAT, "systems": {"first": "FIRES", "second": "w/o FleT"}}
    (other / "key.json").write_text(json.dumps(key))
    read(other, write(other, rater("ann", support="wttt")))
    capsys.readouterr()
    assert main(["compare", str(folder), str(other), "--question", "support", "--out", str(folder / "figure5")]) == 0
    assert re.search(r"w/o RL +50\.0 .*\nw/o FleT +25\.0 ", capsys.readouterr().out)
    figure = ElementTree.fromstring((folder / "figure5" / "support.svg").read_text())
    assert figure.attrib["aria-label"] == ("FIRES, support: w/o RL 50 % win, 25 % tie, 25 % lose; w/o FleT 25 % win, 75 % tie")
    assert (folder / "figure5" / "support.md").read_text().startswith("| FIRES against (support) | win % |")
    assert main(["compare", str(folder), str(folder), "--question", "support", "--out", str(folder)]) == 2
    assert "against different ones" in capsys.readouterr().err
    assert main(["compare", str(folder), "--question", "coherence", "--out", str(folder)]) == 2
    assert "has no coherence; it answers support" in capsys.readouterr().err
    assert main(["compare", str(folder / "figure5"), "--question", "support", "--out", str(folder)]) == 2
    assert "run human_eval read" in capsys.readouterr().err


def test_figure_5_and_table_3_are_one_command_from_the_raters_files(folder, capsys):
    study = folder / "study"
    study.mkdir()
    (folder / "key.json").rename(study / "key.json")
    arguments = [
        "compare",
        str(study),
        "--ratings",
        "ratings_*.json",
        "--question",
        "support",
        "preference",
        "--out",
        str(folder),
    ]
    assert main(arguments) == 2
    assert f"fires_exp: {study} has no ratings_*.json; put the files" in capsys.readouterr().err
    for ratings in (rater("ann", support="wwlt", preference="wwww"), rater("bob", support="wwwt", preference="wwww")):
        write_ratings(study / f"ratings_{ratings.rater}.json", KEY.study, ratings)
    assert main(arguments) == 0
    tables = capsys.readouterr().out
    assert re.search(r"\(support\).*\n-+\nw/o RL +62\.5 ", tables)  # of four: two wins, a tie, half a win
    assert re.search(r"\(preference\).*\n-+\nw/o RL +100\.0 ", tables)
    assert {path.name for path in folder.glob("*.svg")} == {"support.svg", "preference.svg"}
    assert main(["compare", "--question", "support", "--out", str(folder)]) == 2
    assert "no study is named" in capsys.readouterr().err


def test_the_printed_cells_are_a_column_of_their_own(folder, capsys):
    thoughts = asdict(KEY) | {"format": KEY_FORMAT, "questions": ["coherence"]}
    (folder / "key.json").write_text(json.dumps(thoughts))
    read(folder, write(folder, rater("ann", coherence="wwtt")))
    paper = Path(__file__).resolve().parents[2] / "experiments" / "table3_thoughts" / "paper.csv"
    capsys.readouterr()
    arguments = ["compare", str(folder), "--question", "coherence", "--out", str(folder)]
    assert main([*arguments, "--paper", str(paper)]) == 0
    assert re.search(r"kappa +alpha +paper\n-+\nw/o RL .* 14 / 84 / 2\n", capsys.readouterr().out)
    assert (folder / "coherence.md").read_text().splitlines()[2].endswith("| 14 / 84 / 2 |")
    assert read_printed(paper)["usefulness", "wo_flet"] == "23 / 61 / 16"
    assert main(arguments) == 0
    assert not re.search(r"alpha +paper", capsys.readouterr().out)
    # as a study is called that was made of two runs
    (folder / "key.json").write_text(json.dumps(thoughts | {"systems": {"first": "fires (grpo)", "second": "wo_rl (sft)"}}))
    read(folder, [folder / "ann.json"])
    capsys.readouterr()
    assert main([*arguments, "--paper", str(paper)]) == 0
    assert re.search(r"\nwo_rl \(sft\) .* 14 / 84 / 2\n", capsys.readouterr().out)
    (folder / "other.csv").write_text("question,row\ncoherence,w/o RL\n")
    assert main([*arguments, "--paper", str(folder / "other.csv")]) == 2
    assert "other.csv" in capsys.readouterr().err


def test_columns_line_up_and_a_bar_in_a_name_starts_no_column():
    table = [("question", "win"), ("a|b", "1.0")]
    assert as_text(table) == "question  win\n-------------\na|b       1.0"
    assert as_markdown(table) == "| question | win |\n| --- | ---: |\n| a/b | 1.0 |"


def damaged(**changes):
    def change(path):
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (damaged(study="ba9876543210"), "is of study ba9876543210, and the key of 0123456789ab"),
        (damaged(format="something"), "human-eval ratings 1"),
        (damaged(rater=" "), "has no rater"),
        (damaged(ratings=[]), '"ratings"'),
        (damaged(ratings={"i001": "A"}), '"ratings"'),
        (damaged(ratings={"i011": {"support": "A"}}), "i011"),
        (damaged(ratings={"i001": {"warmth": "A"}}), "i001: warmth is no question of this study; write support, preference"),
        (damaged(ratings={"i001": {"support": "C"}}), "i001: support is 'C'; write one of A, B, tie"),
        (damaged(ratings={"i001": {"support": ["A"]}}), "i001: support is ['A']; write one of A, B, tie"),
        (damaged(ratings={}), "nothing is rated yet"),
        (lambda path: path.write_text(path.read_text()[:60]), "no JSON"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "no JSON"),
        (lambda path: path.write_text("[]"), "human-eval ratings 1"),
        (lambda path: path.unlink(), "No such file"),
    ],
)
def test_a_bad_ratings_file_is_one_line_with_its_name(folder, capsys, change, message):
    (path,) = write(folder, rater("ann", support="w"))
    change(path)
    assert read(folder, [path]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"fires_exp: .*ann\.json.*\n", error)
    assert message in error
    assert not (folder / "results.json").exists()


def test_the_same_rater_twice_is_refused_whatever_the_letters(folder, capsys):
    paths = write(folder, rater("Ann", support="w"), rater("ann ", support="w"))
    assert read(folder, paths) == 2
    assert "are both by ann" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"format": "human-eval key 1"}', '{"format": "human-eval key 1", "items": {"a": {}}}']
)
def test_a_bad_key_is_one_line_with_its_name(folder, capsys, text):
    (path,) = write(folder, rater("ann", support="w"))
    (folder / "key.json").write_text(text)
    assert read(folder, [path]) == 2
    assert re.fullmatch(r"fires_exp: .*key\.json.*\n", capsys.readouterr().err)
