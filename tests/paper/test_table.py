"""The table of an experiment: best cells, intervals, significant differences and missing runs, in four formats."""

import json
import re
import shutil
import subprocess

import pytest
from paper.synthetic_sweep import EXPERIMENTS, score, write_sweep, write_sweep_run

from fires_exp.cli.report import main
from fires_exp.errors import ReportError
from fires_exp.metrics.bootstrap import draw_resamples, p_value
from fires_exp.paper.render import as_latex, as_markdown, as_text
from fires_exp.paper.runs import read_row
from fires_exp.paper.significance import PairedBootstrap
from fires_exp.paper.spec import METRICS, Row, read_experiment
from fires_exp.paper.table import make_table

TABLE_2 = EXPERIMENTS / "table2_components"
RUNS = "- {row: ours, experiment: fires}\n- {row: theirs, experiment: wo_rl}\n- {row: third, experiment: wo_sft}\n"
PAPER = "row,experiment,B-2,DIFF-E\nprinted,,7.50,\nours,fires,10.18,0.7209\ntheirs,wo_rl,8.95,\nthird,wo_sft,,\n"


@pytest.fixture
def experiment(tmp_path):
    """A folder with three rows that run and one that the paper alone has."""
    folder = tmp_path / "experiments" / "small"
    folder.mkdir(parents=True)
    (folder / "runs.yaml").write_text(RUNS)
    (folder / "paper.csv").write_text(PAPER)
    (folder / "README.md").write_text("# Small & 50 % sure: which is best?\n")
    return folder


def write_values(scale_folder, experiment, seed, **values):
    """A finished run whose table says so; nothing else of it is needed."""
    folder = scale_folder / experiment / f"seed_{seed}"
    folder.mkdir(parents=True)
    rows = [
        {"name": METRICS[name], "value": value, "low": value - 1, "high": value + 1, "direction": "higher", "count": 40}
        for name, value in values.items()
    ]
    (folder / "run.json").write_text(json.dumps({"status": "finished", "seed": seed}))
    table = {"policies": {"sft": [], "grpo": rows}, "confidence": 0.95, "bootstrap_samples": 200}
    (folder / "metrics.json").write_text(json.dumps(table))
    return folder


def cells(table, metric):
    index = [column.name for column in table.columns].index(metric)
    return {row.name: row.cells[index] for row in table.rows}


def test_rows_stand_in_the_paper_s_order_with_its_cells_beside_ours(experiment, tmp_path):
    write_values(tmp_path / "demo", "fires", 42, **{"B-2": 3.014, "DIFF-E": 0.71234})
    table = make_table(read_experiment(experiment), tmp_path / "demo", None)
    assert [row.name for row in table.rows] == ["printed", "ours", "theirs", "third"]
    assert {name: (cell.text, cell.scatter, cell.paper) for name, cell in cells(table, "B-2").items()} == {
        "printed": ("", "", "7.50"),
        "ours": ("3.01", "[2.01, 4.01]", "10.18"),
        "theirs": ("", "", "8.95"),
        "third": ("", "", ""),
    }
    assert cells(table, "DIFF-E")["ours"].text == "0.7123"
    assert cells(table, "B-2")["ours"].rank == ""  # alone it is neither best nor worst


def test_several_seeds_give_a_mean_and_a_deviation(experiment, tmp_path):
    for seed, value in ((42, 1.0), (43, 2.0), (44, 3.0)):
        write_values(tmp_path / "demo", "fires", seed, **{"B-2": value})
    cell = cells(make_table(read_experiment(experiment), tmp_path / "demo", None), "B-2")["ours"]
    assert (cell.text, cell.scatter, cell.low, cell.high) == ("2.00", "± 1.00", 1.0, 3.0)


def test_best_and_second_follow_the_direction_and_what_reads_the_same_is_equal(experiment, tmp_path):
    for name, bleu, skill in (("fires", 3.001, 0.5), ("wo_rl", 3.004, 0.4), ("wo_sft", 1.0, 0.9)):
        write_values(tmp_path / "demo", name, 42, **{"B-2": bleu, "DIFF-E": skill})
    table = make_table(read_experiment(experiment), tmp_path / "demo", None)
    assert [cell.rank for cell in cells(table, "B-2").values()] == ["", "best", "best", ""]
    assert [cell.rank for cell in cells(table, "DIFF-E").values()] == ["", "second", "best", ""]


def test_marks_are_the_paired_bootstrap_that_one_run_would_print(tmp_path):
    scale = write_sweep(tmp_path / "demo", ["fires", "wo_rl"])
    table = make_table(read_experiment(TABLE_2), scale, None)
    systems = {}
    for name in ("fires", "wo_rl"):
        path = scale / name / "seed_42" / "predictions" / "grpo.jsonl"
        systems[name] = score([json.loads(line) for line in path.read_text().splitlines()], 42).measures["grpo"]
    (ours, theirs) = (read_row(scale, Row(name=name, experiment=name, policy=None)).runs[0] for name in ("wo_rl", "fires"))
    p_values = PairedBootstrap(against=[theirs]).p_values([ours])
    weights = draw_resamples(24, 200, 42)
    for mine, base in zip(systems["wo_rl"], systems["fires"], strict=True):
        assert p_values[mine.name] == p_value(mine.scale * (mine.statistic(weights) - base.statistic(weights)))
    cell = cells(table, "B-2")["w/o RL"]
    assert cell.p == p_values["BLEU-2"]
    assert cell.p < 0.01
    assert cell.marks == 2
    assert cells(table, "B-2")["FIRES"].p is None
    assert table.against == "FIRES"


def test_the_same_answers_differ_by_nothing(tmp_path):
    write_sweep_run(tmp_path / "demo", "fires", 42)
    shutil.copytree(tmp_path / "demo" / "fires", tmp_path / "demo" / "wo_rl")
    table = make_table(read_experiment(TABLE_2), tmp_path / "demo", None)
    assert cells(table, "B-2")["w/o RL"].p == 1.0
    assert cells(table, "B-2")["w/o RL"].marks == 0


def test_seeds_with_instances_of_their_own_are_compared_in_pairs_and_others_not_at_all(tmp_path):
    scale = tmp_path / "demo"
    for name in ("fires", "wo_rl"):
        write_sweep_run(scale, name, 42, instances=24)
        write_sweep_run(scale, name, 43, instances=20)
    write_sweep_run(scale, "wo_ssr", 42, instances=20)
    write_sweep_run(scale, "wo_sft", 44)
    table = make_table(read_experiment(TABLE_2), scale, None)
    assert cells(table, "B-2")["w/o RL"].p < 0.05
    assert "w/o SSR is not compared: wo_ssr/seed_42 answered other instances." in table.notes
    assert "w/o SFT is not compared: the two rows have no seed in common." in table.notes
    (scale / "wo_rl" / "seed_43" / "instance_scores" / "grpo.jsonl").unlink()
    notes = make_table(read_experiment(TABLE_2), scale, None).notes
    assert "w/o RL is not compared: wo_rl/seed_43 has no scores of its instances; run it again." in notes


def test_another_row_may_be_what_the_others_are_compared_with(tmp_path, capsys):
    scale = write_sweep(tmp_path / "demo", ["fires", "wo_rl"], instances=12)
    table = make_table(read_experiment(TABLE_2), scale, "w/o RL")
    assert cells(table, "B-2")["w/o RL"].p is None
    assert cells(table, "B-2")["FIRES"].p is not None
    assert main([str(TABLE_2), "--runs", str(scale), "--against", "w/o everything"]) == 2
    assert re.fullmatch(r"fires_exp: --against 'w/o everything': no row of table2_components; .*\n", capsys.readouterr().err)


def test_a_missing_row_has_a_reason(tmp_path):
    scale = write_sweep(tmp_path / "demo", ["fires", "wo_sft", "wo_ssr", "wo_flet"], instances=8)
    record = scale / "wo_sft" / "seed_42" / "run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"status": "CollapseError: one_response is 0.7 at step 12"}))
    (scale / "wo_ssr" / "seed_42" / "run.json").unlink()
    (scale / "wo_flet" / "seed_42" / "run.json").write_text('{"status": "running"}')
    (scale / "wo_rl" / "seed_42").mkdir(parents=True)
    shutil.copy(scale / "fires" / "seed_42" / "run.json", scale / "wo_rl" / "seed_42")
    table = make_table(read_experiment(TABLE_2), scale, None)
    assert {row.name: row.missing for row in table.rows} == {
        "FIRES": (),
        "w/o FleT": ("seed 42: still running, or killed",),
        "w/o SFT": ("seed 42: CollapseError: one_response is 0.7 at step 12",),
        "w/o RL": ("seed 42: finished without a table: no metrics.json",),
        "w/o SSR": ("seed 42: failed or was stopped before it began: no run.json",),
        "w/o Video": ("not run yet: there is no wo_video/seed_… in the folder of the sweep",),
    }


def test_another_encoder_s_score_has_a_column_of_its_own_without_the_paper_s_number(experiment, tmp_path):
    (experiment / "paper.csv").write_text(PAPER.replace("DIFF-E", "F_BERT"))
    folder = write_values(tmp_path / "demo", "fires", 42, **{"B-2": 3.0})
    table = json.loads((folder / "metrics.json").read_text())
    row = table["policies"]["grpo"][0]
    table["policies"]["grpo"].append(row | {"name": "MiniLM-L6 score F1 (not BERTScore)", "value": 26.0})
    (folder / "metrics.json").write_text(json.dumps(table))
    made = make_table(read_experiment(experiment), tmp_path / "demo", None)
    assert [column.name for column in made.columns] == ["B-2", "F_BERT", "MiniLM-L6 score F1 (not BERTScore)"]
    assert cells(made, "F_BERT")["ours"].text == ""
    assert cells(made, "MiniLM-L6 score F1 (not BERTScore)")["ours"].text == "26.00"
    assert {cell.paper for cell in cells(made, "MiniLM-L6 score F1 (not BERTScore)").values()} == {""}


def test_a_row_may_mean_an_earlier_policy_of_a_run(experiment, tmp_path):
    (experiment / "runs.yaml").write_text("- {row: ours, experiment: fires}\n- {row: theirs, experiment: fires, policy: sft}\n")
    folder = write_values(tmp_path / "demo", "fires", 42, **{"B-2": 3.0})
    table = json.loads((folder / "metrics.json").read_text())
    table["policies"]["sft"] = [table["policies"]["grpo"][0] | {"value": 2.0}]
    (folder / "metrics.json").write_text(json.dumps(table))
    made = cells(make_table(read_experiment(experiment), tmp_path / "demo", None), "B-2")
    assert (made["ours"].text, made["theirs"].text) == ("3.00", "2.00")
    (experiment / "runs.yaml").write_text("- {row: ours, experiment: fires, policy: dpo}\n")
    with pytest.raises(ReportError, match=r"no policy 'dpo'.*write one of sft, grpo for row 'ours'"):
        make_table(read_experiment(experiment), tmp_path / "demo", None)


def three_rows(experiment, scale_folder):
    for name, value in (("fires", 3.0), ("wo_rl", 2.0), ("wo_sft", 1.0)):
        write_values(scale_folder, name, 42, **{"B-2": value})
    return make_table(read_experiment(experiment), scale_folder, None)


def test_the_text_has_a_star_a_line_and_the_paper_s_number(experiment, tmp_path):
    lines = as_text(three_rows(experiment, tmp_path / "demo"), ["It differs."]).splitlines()
    assert lines[0] == "Small & 50 % sure: which is best?"
    assert [line.split() for line in lines[4:8]] == [
        ["printed", "–", "(7.50)", "–"],
        ["ours", "3.00*", "[2.00,", "4.00]", "(10.18)", "–", "(0.7209)"],
        ["theirs", "2.00_", "[1.00,", "3.00]", "(8.95)", "–"],
        ["third", "1.00", "[0.00,", "2.00]", "–"],
    ]
    assert lines[-1] == "It differs."


def test_markdown_has_as_many_cells_in_each_line_and_no_markup_of_a_name(experiment, tmp_path):
    (experiment / "runs.yaml").write_text(RUNS.replace("third", "'a|b <i>_x_'"))
    (experiment / "paper.csv").write_text(PAPER.replace("third", "a|b <i>_x_"))
    text = as_markdown(three_rows(experiment, tmp_path / "demo"), [])
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {4}
    assert r"a\|b \<i\>\_x\_" in table[-1]
    assert r"| ours | **3.00** <sub>\[2.00, 4.00\] paper 10.18</sub> |" in text
    assert "<ins>2.00</ins>" in text


def test_latex_is_a_booktabs_table_that_compiles(experiment, tmp_path):
    (experiment / "runs.yaml").write_text(RUNS.replace("third", r"'a & b_1 \x {50 %} #^~$ ± β'"))
    (experiment / "paper.csv").write_text(PAPER.replace("third", r"a & b_1 \x {50 %} #^~$ ± β"))
    text = as_latex(three_rows(experiment, tmp_path / "demo"), ["It differs by 5 % & more."])
    body = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0].strip().splitlines()
    assert [len(re.findall(r"(?<!\\)&", line)) for line in body] == [2, 2, 2, 2]
    assert all(line.endswith(r"\\") for line in body)
    assert r"\textbf{3.00} {\scriptsize [2.00, 4.00]} {\tiny (10.18)}" in body[1]
    assert r"\underline{2.00}" in body[2]
    assert re.findall(r"\\(toprule|midrule|bottomrule)", text) == ["toprule", "midrule", "bottomrule"]
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    latex = shutil.which("pdflatex") or shutil.which("lualatex") or shutil.which("tectonic")
    if latex:
        document = tmp_path / "table.tex"
        document.write_text("\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n" + text + "\\end{document}\n")
        made = subprocess.run([latex, "-interaction=nonstopmode", "-halt-on-error", document], cwd=tmp_path, capture_output=True)
        assert made.returncode == 0, made.stdout.decode()[-2000:]
        assert (tmp_path / "table.pdf").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("runs.yaml", "- {row: ours}\n", "entry 1 is .*write - {row: …, experiment: …}"),
        ("runs.yaml", "rows\n", "entry 1 is 'rows'"),
        ("runs.yaml", "- {row: 1, experiment: fires}\n", "entry 1: row, experiment and policy are names"),
        ("runs.yaml", "- {row: ours, experiment: ../../etc}\n", "entry 1: row, experiment and policy are names"),
        ("runs.yaml", "- {row: ours, experiment: a}\n- {row: ours, experiment: b}\n", "two rows are called 'ours'"),
        ("runs.yaml", "- {row: new, experiment: fires}\n", "no line for the row 'new'"),
        ("runs.yaml", "- {row: [\n", "no YAML"),
        ("paper.csv", "row,experiment,BLEU\nours,fires,1\n", "the first line is 'row,experiment,BLEU'"),
        ("paper.csv", "row,experiment,B-2\nours,fires,good\n", "paper.csv:2: not 3 cells with numbers in the last 1"),
        ("paper.csv", "row,experiment,B-2\nours,fires,1,2\n", "paper.csv:2: not 3 cells"),
    ],
)
def test_a_folder_that_cannot_be_read_is_one_line(experiment, file, text, message):
    (experiment / file).write_text(text)
    with pytest.raises(ReportError, match=message):
        read_experiment(experiment)


def test_without_printed_cells_all_that_the_paper_measures_is_a_column(experiment, tmp_path):
    (experiment / "paper.csv").unlink()
    read = read_experiment(experiment)
    assert [row.name for row in read.rows] == ["ours", "theirs", "third"]
    assert read.columns == tuple(METRICS)
