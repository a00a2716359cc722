"""experiments/: rows of the paper's tables, their experiments and printed cells agree."""

import csv
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = sorted(path.parent for path in (ROOT / "experiments").glob("*/runs.yaml"))
EXPERIMENTS = {path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml")}
NOT_IN_A_TABLE = {"smoke", "gpt_4o_0shot"}


def runs_of(folder):
    return [(row["row"], row["experiment"]) for row in yaml.safe_load((folder / "runs.yaml").read_text())]


def test_there_is_a_folder_for_each_table_and_figure_that_has_experiments():
    assert [folder.name for folder in FOLDERS] == [
        "appendix_e_beta",
        "figure7_cold_start",
        "table1_main",
        "table2_components",
        "table4_aspects",
        "table5_generalization",
    ]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_rows_name_experiments_that_exist_and_agree_with_the_paper_s_cells(folder):
    runs = runs_of(folder)
    assert {experiment for _, experiment in runs} <= EXPERIMENTS
    with (folder / "paper.csv").open() as file:
        cells = list(csv.DictReader(file, strict=True))
    assert [(row["row"], row["experiment"]) for row in cells if row["experiment"]] == runs
    for row in cells:
        for name, text in row.items():
            assert text is not None
            if name not in ("row", "experiment") and text:
                assert 0 < float(text) < 100
    assert "+experiment=" + ",".join(experiment for _, experiment in runs) in (folder / "README.md").read_text()


def test_every_experiment_is_a_row_somewhere():
    rows = {experiment for folder in FOLDERS for _, experiment in runs_of(folder)}
    assert rows == EXPERIMENTS - NOT_IN_A_TABLE


def test_the_readme_names_every_experiment():
    readme = (ROOT / "README.md").read_text()
    for name in EXPERIMENTS - {"cold_start_50", "cold_start_75", "wo_emotion"}:
        assert f"`{name}`" in readme


def test_a_row_that_stands_in_several_tables_has_the_same_cells_in_each():
    cells = {}
    for folder in FOLDERS:
        with (folder / "paper.csv").open() as file:
            for row in csv.DictReader(file):
                for name, text in row.items():
                    if row["experiment"] and name not in ("row", "experiment"):
                        cells.setdefault((row["experiment"], name), set()).add(text)
    assert {key: texts for key, texts in cells.items() if len(texts) > 1} == {}


def test_the_numbers_in_an_experiment_s_header_are_the_paper_s_cells():
    checked = set()
    for folder in FOLDERS:
        with (folder / "paper.csv").open() as file:
            for row in csv.DictReader(file):
                if row["experiment"] and "B-2" in row:
                    header = (ROOT / "conf" / "experiment" / f"{row['experiment']}.yaml").read_text()
                    named = dict(re.findall(r"(B-2|R-L|METEOR|DIFF-E) (\d+\.\d+)", header))
                    assert named == {name: row[name] for name in ("B-2", "R-L", "METEOR", "DIFF-E") if row[name]}
                    checked.add(row["experiment"])
    assert len(checked) == 28


TARGETS = {
    "table1": "experiments/table1_main ",
    "table2": "experiments/table2_components ",
    "table3": "human-eval compare one two --ratings",
    "table4": "experiments/table4_aspects ",
    "table5": "experiments/table5_generalization ",
    "figure3": "recipe=synthesize",
    "figure5": "human-eval compare one two --ratings",
    "figure7": "experiments/figure7_cold_start ",
    "appendix_e": "experiments/appendix_e_beta ",
}


@pytest.mark.parametrize(("target", "said"), TARGETS.items())
def test_every_table_and_figure_is_one_command(target, said):
    command = ["make", "--dry-run", target, "STUDIES=one two"]
    assert said in subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
