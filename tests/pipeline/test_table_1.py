"""Every row of Table 1 on MESC's text, small: tiny models, a service on loopback, and the table's cells."""

from pathlib import Path

import pytest
import yaml
from faulty_server import serving
from hydra import compose, initialize_config_module

from fires_exp.config.load import load_config, register_schema, write_yaml
from fires_exp.paper.spec import read_experiment
from fires_exp.paper.table import make_table
from fires_exp.pipeline.run import run_recipe

TABLE_1 = Path(__file__).resolve().parents[2] / "experiments" / "table1_main"
ROWS = {row["row"]: row["experiment"] for row in yaml.safe_load((TABLE_1 / "runs.yaml").read_text())}
SMALL = [
    "scale=smoke", "seq2seq=tiny",
    "metrics.include=[bleu_2,distinct_3]", "reward.support_skill_weight=0",
    "dataset.limit.train=8", "dataset.limit.val=2", "dataset.limit.test=3", "trainer.progress=false",
]  # fmt: skip
SERVICE = ["baseline.api_key_env=null", "baseline.requests_per_minute=60000"]
THINKING = "<think>\nResponse Strategy: I should listen.\n</think>\n<response>I am listening to you.</response>"


def answer(body):
    """In the form that the system prompt asks for."""
    return THINKING if "<think>" in body["messages"][0]["content"] else "I am listening to you."


@pytest.fixture(scope="module")
def runs(tmp_path_factory, cache, real_data):
    """The scale folder of a sweep over all rows, and the questions that came to the service."""
    scale = tmp_path_factory.mktemp("table1") / "small"
    places = [f"paths.artifacts={scale.parent / 'artifacts'}", f"paths.cache={cache}"]
    register_schema()
    with serving(answer) as server:
        mesc = ["dataset=mesc", f"dataset.root={real_data / 'mesc'}", f"baseline.base_url={server.url}"]
        for experiment in ROWS.values():
            folder = scale / experiment / "seed_42"
            folder.mkdir(parents=True)
            with initialize_config_module("fires_exp.conf", version_base="1.3"):
                asked = [f"+experiment={experiment}", *SMALL, *SERVICE, *mesc, *places]
                config = load_config(compose("config", overrides=asked))
            write_yaml(config, folder / "resolved.yaml")
            run_recipe(config, folder)
    return scale, server.requests


def answered(run):
    return [(row["id"], row["reference_response"]) for row in run.predictions]


def test_every_row_has_its_own_run_on_mesc_in_its_cells(runs):
    scale, _ = runs
    table = make_table(read_experiment(TABLE_1), scale, None)
    assert [row.name for row in table.rows] == list(ROWS)
    assert len(table.rows) == 13
    printed = {column.name for column in table.columns}
    assert {"B-2", "Dist-3"} <= printed
    for row in table.rows:
        (run,) = row.runs
        assert (row.missing, run.table["dataset"], run.table["instances"]) == ((), "mesc", 3)
        assert run.folder == scale / ROWS[row.name] / "seed_42"
        ours = {column.name: cell.value for column, cell in zip(table.columns, row.cells, strict=True)}
        measured = {one["name"]: one["value"] for one in run.table["policies"][run.policy]}
        assert ours["B-2"] == measured["BLEU-2"]
        assert ours["Dist-3"] == measured["Distinct-3 (per response)"]


def test_all_rows_answer_the_same_instances_of_the_test_split(runs):
    scale, _ = runs
    (first, *others) = make_table(read_experiment(TABLE_1), scale, None).runs
    assert len(answered(first)) == 3
    assert [answered(run) for run in others] == [answered(first)] * 12


def test_services_are_asked_once_for_each_instance_of_each_row(runs):
    _, requests = runs
    models = [body["model"] for body in requests]
    expected = {"gpt-3.5-turbo-0125": 3, "gpt-4-0613": 3, "deepseek-reasoner": 3, "gpt-4o-2024-11-20": 9}
    assert {model: models.count(model) for model in set(models)} == expected
    assert all(len(body["messages"]) == 8 for body in requests)  # the system prompt, three worked examples, the instance
