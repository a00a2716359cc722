"""The dashboards as Weights & Biases and TensorBoard get them."""

import ast
import json
import re
from collections import Counter
from operator import attrgetter
from pathlib import Path

from trained_run import composed
from wandb_server import KEY, wandb_server

from fires_exp.cli.dashboards import main
from fires_exp.training.loggers import panels
from fires_exp.training.loggers.tensorboard_layout import layout

SOURCE = Path(panels.__file__).resolve().parents[2]
LOGGED = re.compile(r"(sft|grpo|reward|rollout|speed|epitome)/[a-z_]+")


def panels_of(spec):
    """Titles of sections, each with its panels' configurations."""
    return {
        section["name"]: [panel["config"] for panel in section["panels"]]
        for section in spec["section"]["panelBankConfig"]["sections"]
    }


def metrics_of(sections):
    return {metric for configs in sections.values() for config in configs for metric in config.get("metrics", ())}


def test_without_a_key_what_would_be_saved_lies_in_two_files_and_one_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert main(["--project", "esc", "--entity", "lab", "--out", str(tmp_path / "boards")]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("without WANDB_API_KEY nothing was sent: ")
    spec = json.loads((tmp_path / "boards" / "workspace.json").read_text())
    sections = panels_of(spec)
    assert list(sections) == [*panels.SECTIONS, "Sweeps"]
    assert metrics_of(sections) == {metric for plan in panels.DASHBOARD for metric in plan.metrics}
    assert [key["name"] for key in spec["section"]["runSets"][0]["grouping"]] == ["group", "jobType"]
    assert spec["section"]["settings"]["xAxis"] == "_step"
    columns = [column["accessor"] for column in sections["Sweeps"][0]["columns"]]
    assert columns[0] == "config:grpo.value.beta"
    assert columns[-1] == "summary:rollout/response_words_mean"
    report = json.loads((tmp_path / "boards" / "report.json").read_text())
    assert Counter(block["type"] for block in report["blocks"])["panel-grid"] == len(panels.SECTIONS) + 1
    assert '"completions"' in json.dumps(report)


def test_with_a_key_the_workspace_and_the_report_are_saved_and_their_addresses_printed(tmp_path, monkeypatch, capsys):
    with wandb_server() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        assert main(["--project", "esc", "--out", str(tmp_path)]) == 0
        output = capsys.readouterr()
        assert [(view["entityName"], view["projectName"], view["type"]) for view in server.views] == [
            ("me", "esc", "runs"),
            ("me", "esc", "project-view"),
        ]
        assert list(panels_of(json.loads(server.views[1]["spec"]))) == [*panels.SECTIONS, "Sweeps"]
        report, workspace = output.out.splitlines()
        assert report == f"{server.url}/me/esc/reports/fires_exp--V1"
        assert workspace.startswith(f"{server.url}/me/esc?nw=")
    assert KEY not in output.out + output.err
    assert not list(tmp_path.iterdir())


def test_a_server_that_refuses_is_one_line(tmp_path, monkeypatch, capsys):
    with wandb_server() as server:
        server.refuses = True
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        assert main(["--project", "esc"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search("WANDB_API_KEY.*--entity.*--project", line)
    assert KEY not in line


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    (tmp_path / "file").touch()
    assert main(["--out", str(tmp_path / "file" / "boards")]) == 2
    assert "cannot be written (Not a directory); write --out" in capsys.readouterr().err


def test_every_name_that_the_code_logs_has_a_panel():
    """Where they are logged, names are written in full; `reward/<part>`, `aspect/…` and `health/…` are composed."""
    files = [*(SOURCE / "training").glob("*.py"), *(SOURCE / "grpo").rglob("*.py")]
    texts = {node.value for file in files for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)}
    logged = {text for text in texts if isinstance(text, str) and LOGGED.fullmatch(text)}
    assert len(logged) > 25
    assert logged <= {metric for plan in panels.DASHBOARD for metric in plan.metrics}


def test_no_metric_has_two_panels_and_no_two_panels_of_a_section_one_title():
    metrics = Counter(metric for plan in panels.DASHBOARD for metric in plan.metrics)
    assert [metric for metric, count in metrics.items() if count > 1] == []
    titles = Counter((plan.stage, plan.section, plan.title) for plan in panels.DASHBOARD)
    assert max(titles.values()) == 1


def test_what_sweeps_change_are_keys_of_the_configuration():
    config = composed("+experiment=fires", "scale=paper")
    assert [attrgetter(key)(config) for key in panels.SWEPT] == [0.001, 1e-5, 1.0, 0.1, 42]


def test_tensorboard_gets_a_stage_s_own_sections_and_exact_names():
    assert list(layout("sft")) == ["Cold start"]
    rewards = layout("grpo")["Rewards"]
    assert rewards["Reward"] == ("Multiline", ["^reward/total$"])
    assert "^reward/consistency$" in rewards["Reward by part"][1]
    assert list(layout("explorations-weighted")) == ["Support skills"]
    assert list(layout("evaluate")) == ["Scores"]
