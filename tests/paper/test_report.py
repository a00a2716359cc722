"""The report of an experiment: its files, its statements on the runs, and the way from a cell back to its sources."""

import csv
import hashlib
import json
import re
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from paper.synthetic_sweep import EXPERIMENTS, copy_seeds, write_study_result, write_sweep, write_sweep_run
from report.synthetic_run import ATTACK, write_lines, write_run

from fires_exp.cli.report import main
from fires_exp.config.load import load_config, load_yaml, register_schema, write_yaml
from fires_exp.metrics.bootstrap import value
from fires_exp.metrics.measures import ScoredResponse, bleu
from fires_exp.pipeline.run import run_recipe

TABLE_2 = EXPERIMENTS / "table2_components"
FILES = ["report.html", "results.csv", "table.md", "table.tex", "table.txt"]


def report(scale_folder, experiment=TABLE_2, *more):
    assert main([str(experiment), "--runs", str(scale_folder), *more]) == 0
    return scale_folder / "report"


def page_of(scale_folder, experiment=TABLE_2, *more):
    return (report(scale_folder, experiment, *more) / "report.html").read_text()


class Links(HTMLParser):
    """Where a page leads, and its headings."""

    def __init__(self, text):
        super().__init__()
        self.hrefs, self.headings = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "a":
            self.hrefs.append(dict(attrs)["href"])
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))


@pytest.fixture
def sweep(tmp_path):
    return write_sweep(tmp_path / "runs" / "table2_components" / "demo", ["fires", "wo_rl"], instances=8)


def test_a_cell_leads_to_its_run_configuration_commit_and_predictions_and_is_scored_again(tmp_path, cache):
    """A real run of the tiny backbone, as a sweep leaves it."""
    folder = tmp_path / "demo" / "fires" / "seed_7"
    folder.mkdir(parents=True)
    small = ["scale=smoke", "frames=none", "dataset.limit.test=4", "trainer.progress=false"]
    register_schema()
    with initialize_config_module("fires_exp.conf", version_base="1.3"):
        places = [f"paths.artifacts={tmp_path / 'artifacts'}", f"paths.cache={cache}"]
        arguments = ["recipe=zero_shot", "seed=7", "metrics.include=[bleu_2,rouge_l]"]
        config = load_config(compose("config", overrides=[*small, *places, *arguments]))
    write_yaml(config, folder / "resolved.yaml")
    run_recipe(config, folder)

    report(tmp_path / "demo")
    printed = (tmp_path / "demo" / "report" / "table.txt").read_text()
    with (tmp_path / "demo" / "report" / "results.csv").open(newline="") as file:
        (line,) = (row for row in csv.DictReader(file) if row["row"] == "FIRES" and row["metric"] == "BLEU-2")
    assert f"{float(line['value']):.2f} [" in next(row for row in printed.splitlines() if row.startswith("FIRES"))

    run = (tmp_path / "demo" / "report" / line["run_folder"]).resolve()
    assert run == folder
    read = load_yaml(run / "resolved.yaml")
    assert hashlib.sha256(json.dumps(asdict(read), sort_keys=True).encode()).hexdigest() == line["config_sha256"]
    assert int(line["seed"]) == read.seed == 7
    assert line["commit"] == (json.loads((run / "run.json").read_text())["commit"] or "")
    predictions = run / "predictions" / f"{line['policy']}.jsonl"
    assert hashlib.sha256(predictions.read_bytes()).hexdigest() == line["predictions_sha256"]
    answers = [
        ScoredResponse(
            response=row["response"], reference=row["reference_response"], context=None, thought=None, well_formed=None
        )
        for row in map(json.loads, predictions.read_text().splitlines())
    ]
    (measure,) = bleu(answers)
    assert len(answers) == int(line["instances"]) == 4
    assert measure.scale * value(measure.statistic, len(answers)) == float(line["value"])


def test_results_csv_has_every_metric_of_every_seed_with_all_digits(tmp_path):
    scale = write_sweep(tmp_path / "demo", ["fires", "wo_rl"], seeds=(42, 43), instances=8)
    with (report(scale) / "results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    tables = {name: json.loads((scale / name / "seed_43" / "metrics.json").read_text()) for name in ("fires", "wo_rl")}
    assert {(line["experiment"], line["seed"]) for line in lines} == {(a, b) for a in tables for b in ("42", "43")}
    for name, table in tables.items():
        values = {line["metric"]: float(line["value"]) for line in lines if (line["experiment"], line["seed"]) == (name, "43")}
        assert values == {row["name"]: row["value"] for row in table["policies"]["grpo"]}
        assert {line["config_sha256"] for line in lines if line["seed"] == "43"} == {f"{43:064x}"}


def test_a_report_is_five_files_and_the_same_twice(sweep):
    folder = report(sweep)
    assert sorted(path.name for path in folder.iterdir()) == FILES
    before = {name: (folder / name).read_bytes() for name in FILES}
    assert {name: (report(sweep) / name).read_bytes() for name in FILES} == before


def test_the_page_has_differences_costs_and_links_to_every_run(sweep):
    page = page_of(sweep)
    links = Links(page)
    targets = [href for href in links.hrefs if not href.startswith("#")]
    assert targets == ["../fires/seed_42/report.html", "../wo_rl/seed_42/report.html"]
    assert all((sweep / "report" / target).is_file() for target in targets)
    for words in (
        "<td>smollm2_vl</td><td>Qwen2.5-VL-7B-Instruct</td>",
        "<td>sample (8 instances of test)</td><td>MESC</td>",
        "<td>rules</td><td>gpt-4o-2024-11-20, with the frames</td>",
        "invented sample corpus",
        ">2 h 13 min</td>",  # twice 4000 seconds
        "x86_64, 2 threads",
        "<b>w/o Video</b>: not run yet",
    ):
        assert words in page
    assert all(later - earlier <= 1 for earlier, later in zip(links.headings, links.headings[1:], strict=False))


def test_text_of_models_is_never_markup_and_nothing_comes_from_outside(sweep):
    page = page_of(sweep, TABLE_2, "--cases", "sample-0-1", "sample-3-1")
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 1  # the seeker's words in the first case
    assert ATTACK not in page
    assert not re.search(r"https?://(?!www\.w3\.org)", page)
    assert page.count('<p class="soft">sample-') == 2


def test_a_run_without_a_page_is_linked_by_its_record(sweep):
    (sweep / "fires" / "seed_42" / "report.html").unlink()
    assert "../fires/seed_42/run.json" in Links(page_of(sweep)).hrefs


def test_the_size_of_the_cold_start_is_drawn_from_its_configuration(tmp_path):
    scale = tmp_path / "demo"
    for name, fraction in (("cold_start_50", 0.5), ("cold_start_25", 0.25), ("fires", 1.0)):
        write_sweep_run(scale, name, 42, 8, changes=[("recipe:\n", f"sft:\n  fraction: {fraction}\nrecipe:\n")])
    page = page_of(scale, EXPERIMENTS / "figure7_cold_start")
    table = {
        name: json.loads((scale / name / "seed_42" / "metrics.json").read_text())["policies"]["grpo"][0]["value"]
        for name in ("cold_start_25", "cold_start_50", "fires")
    }
    words = ", ".join(f"{of:.3g} at {size}" for size, of in zip((25, 50, 100), table.values(), strict=True))
    assert f"B-2 over % of the cold start&#x27;s data: {words}" in page
    assert "Training by weight of the KL term" not in page


def test_training_by_the_weight_of_the_kl_term_has_a_line_a_row_that_is_a_mean_over_seeds(tmp_path):
    scale = tmp_path / "demo"
    for name, beta, seed, reward in (("beta_0", 0, 42, 1.0), ("beta_0", 0, 43, 3.0), ("fires", 0.001, 42, 0.5)):
        folder = write_sweep_run(scale, name, seed, 8, changes=[("recipe:\n", f"grpo:\n  beta: {beta}\nrecipe:\n")])
        kl = {"grpo/kl": 0.1} if beta else {}  # what has no weight is not measured
        steps = [{"stage": "grpo", "step": step, "reward/total": reward * step, **kl} for step in range(3)]
        write_lines(folder / "metrics.jsonl", steps)
    page = page_of(scale, EXPERIMENTS / "appendix_e_beta")
    assert (
        "Reward: beta = 0 from 0 at step 0 to 4 at step 2, between 0 and 4; beta = 0.001 from 0 at step 0 to 1 at step 2" in page
    )
    assert "KL from the reference: beta = 0.001 from 0.1 at step 0" in page
    assert "nats per token; not measured: beta = 0<" in page
    assert "Over the size of the cold start" not in page


def test_one_page_has_all_experiments_and_the_human_evaluations_that_were_read(sweep, capsys):
    runs = sweep.parents[1]
    write_study_result(runs / "human_eval" / "one", "w/o RL", 0.5)
    write_study_result(runs / "human_eval_2", "GPT-4o", 0.6)
    assert main(["paper", "--runs", str(runs), "--experiments", str(EXPERIMENTS)]) == 0
    page = (runs / "paper" / "demo" / "report.html").read_text()
    for title in ("Table 1: ", "Table 2: ", "Table 4: ", "Table 5: ", "Figure 7: ", "Appendix E: "):
        assert f">{title}" in page
    order = re.findall(r'<a href="#[^"]+">([^<]+)</a>', page.partition("</nav>")[0])
    assert order == ["Table 1", "Table 2", "Table 4", "Table 5", "Figure 7", "Appendix E", "Human evaluation"]
    assert "FIRES, support: w/o RL 50 % win, 40 % tie, 10 % lose; GPT-4o 60 % win, 30 % tie, 10 % lose" in page
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert {href[1:] for href in Links(page).hrefs if href.startswith("#")} <= set(ids)
    assert "../../table2_components/demo/fires/seed_42/report.html" in Links(page).hrefs
    assert capsys.readouterr().out.endswith(f"{runs / 'paper' / 'demo' / 'report.html'}\n")
    assert main(["paper", "--runs", str(runs), "--experiments", str(EXPERIMENTS), "--scale", "paper"]) == 2
    assert "has no <experiment>/paper" in capsys.readouterr().err


def test_the_page_of_all_has_table_3_beside_the_paper_s_cells_and_figure_3(sweep):
    runs = sweep.parents[1]
    write_study_result(runs.parent / "studies" / "one", "w/o RL", 0.5, "usefulness")
    figure_3 = write_run(runs / "figure3" / "demo")
    record = json.loads((figure_3 / "run.json").read_text()) | {"config_sha256": "0f" * 32, "commit": "ab" * 20}
    (figure_3 / "run.json").write_text(json.dumps(record))
    arguments = ["paper", "--runs", str(runs), "--experiments", str(EXPERIMENTS)]
    assert main([*arguments, "--human-eval", str(runs.parent / "studies" / "one")]) == 0
    folder = runs / "paper" / "demo"
    page, markdown, latex = (folder.joinpath(name).read_text() for name in ("report.html", "table.md", "table.tex"))
    # the paper: 37 % win, 55 % tie, 8 % lose
    assert '<th scope="row">w/o RL</th><td class="number">50.0 <span class="scatter">[50.0, 50.0]</span></td>' in page
    assert '<td class="number">37 / 55 / 8</td><td><code>../../../studies/one</code></td>' in page
    assert "| w/o RL | 50.0 [50.0, 50.0] | 40.0 [40.0, 40.0] | 10.0 [10.0, 10.0] |" in markdown
    assert r"w/o RL & 50.0 [50.0, 50.0] & 40.0 [40.0, 40.0] & 10.0 [10.0, 10.0] &" in latex
    assert r"FIRES against (usefulness) & win \% & tie \% & lose \% & p" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 7
    source = "from ../../figure3/demo, configuration 0f0f0f0f0f, commit ababababab."
    assert f"% of thoughts of rules; {source}" in page
    (figure_3 / "run.json").write_text(json.dumps(record | {"status": "running"}))
    assert main(arguments) == 0
    page = (folder / "report.html").read_text()
    assert "Figure 3: which" not in page
    assert "Human evaluation" not in page


def test_a_judge_in_the_reward_differs_from_the_paper(sweep):
    path = sweep / "fires" / "seed_42" / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"judge": "some-model"}))
    assert '<th scope="row">rewarded by the judgment of</th><td>some-model</td><td>none</td>' in page_of(sweep)


def test_a_row_that_was_refused_before_it_began_says_why(sweep):
    folder = sweep / "wo_video" / "seed_42"
    folder.mkdir(parents=True)
    (folder / "terminal.log").write_text("a warning\nfires_exp: test_dataset.root has no value; write test_dataset.root=…\n")
    assert "<b>w/o Video</b>: seed 42: test_dataset.root has no value; write test_dataset.root=…" in page_of(sweep)


def test_the_only_scale_that_ran_need_not_be_named_and_of_two_one_must_be(sweep, monkeypatch, capsys):
    monkeypatch.chdir(sweep.parents[2])
    assert main([str(TABLE_2)]) == 0
    assert capsys.readouterr().out.endswith(f"{Path('runs/table2_components/demo/report/report.html')}\n")
    write_sweep(sweep.parent / "paper", ["fires"], instances=8)
    assert main([str(TABLE_2)]) == 2
    assert re.fullmatch(r"fires_exp: .* has the scales demo, paper; name a folder with --runs .*\n", capsys.readouterr().err)
    assert main([str(TABLE_2), "--runs", "runs/nothing"]) == 2
    assert re.fullmatch(r"fires_exp: runs/nothing .*--runs.*\n", capsys.readouterr().err)


def test_two_hundred_run_folders_are_each_read_once(tmp_path, monkeypatch):
    scale = write_sweep(tmp_path / "demo", ["fires", "wo_rl"], instances=6)
    read = []
    for name in ("read_text", "read_bytes"):
        true = getattr(Path, name)
        monkeypatch.setattr(Path, name, lambda path, *args, true=true, **named: read.append(path) or true(path, *args, **named))

    def files_of_runs():
        read.clear()
        report(scale)
        return [path for path in read if "seed_" in str(path)]

    of_two = files_of_runs()
    for experiment in ("fires", "wo_rl"):
        copy_seeds(scale, experiment, range(100, 199))
    added = [path for path in files_of_runs() if path not in of_two]
    assert len(added) == len(set(added)) == 198 * 4  # run.json, metrics.json, the instances' scores, the predictions' hash
