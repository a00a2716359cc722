"""What loggers record of a run, also of a killed one, and how a run continues when Weights & Biases fails."""

import glob
import json
import logging
import os
import signal
import subprocess
import sys
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from trained_run import composed
from wandb_server import KEY, wandb_server

from fires_exp.config.load import write_yaml
from fires_exp.pipeline.run import run_recipe
from fires_exp.thinking.aspects import Aspect
from fires_exp.training.loggers import completions_table, panels
from fires_exp.training.loggers.factory import log_completions, open_logger, replay_steps

# so that as much as possible is logged: well-formed answers, two steps of GRPO after the first window of health
RUN = [
    "+experiment=smoke", "aspects=no_thought", "trainer.progress=false", "sft.validate_every_steps=1", "health.window_steps=1",
    "frames=none", "metrics.include=[bleu_2,rouge_l,diff_epitome]", "dataset.limit.train=8",
    "dataset.limit.val=2", "dataset.limit.test=2", "grpo.beta=0.04",
]  # fmt: skip
# metrics that this run cannot log: they need a judge's service, BlenderBot, or thoughts, which the tiny model does not write
NOT_LOGGED = {"reward/judge", "sft/cut_histories", *(f"aspect/{aspect}_unknown" for aspect in Aspect)}
ROW = {
    "step": 0, "example_id": "a-1", "place": 0, "prompt": "seeker: I told you.", "thought": "Emotion: *worry*",
    "response": "Told me <b>what</b>?", "reference_response": "I see.", "completion": "…", "reward": 0.4, "reward_format": 1.0,
    "finish_reason": "stop",
}  # fmt: skip


@pytest.fixture(autouse=True)
def quiet(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)
    logging.getLogger("fires_exp").propagate = True


def sync(server, *folders):
    """`wandb sync`, as a user would."""
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", *folders],
        env={**os.environ, **server.environment(), "WANDB_SILENT": "false"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "fires_exp.pipeline"]


def offline_runs(run_folder):
    return sorted(glob.glob(f"{run_folder}/logs/wandb/offline-run-*"))


def numbers(path):
    """The rows of a metrics.jsonl, merged by step."""
    rows = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        rows.setdefault(row["step"], {}).update(row)
    return list(rows.values())


@pytest.fixture(scope="module")
def uploaded(tmp_path_factory, cache):
    """The folder of a run that was logged offline, and the server to which it was uploaded afterwards."""
    folder = tmp_path_factory.mktemp("uploaded")
    config = composed(*RUN, "logger=wandb", f"paths.artifacts={folder / 'artifacts'}", f"paths.cache={cache}")
    (folder / "run").mkdir()
    write_yaml(config, folder / "run" / "resolved.yaml")
    with pytest.MonkeyPatch.context() as patch, wandb_server() as server:
        patch.setenv("WANDB_API_KEY", KEY)
        patch.setenv("WANDB_SILENT", "true")
        patch.delenv("WANDB_DATA_DIR", raising=False)
        run_recipe(config, folder / "run")
        sync(server, *offline_runs(folder / "run"))
    return folder, server


def runs_of(server, stage):
    return [name for name, run in server.runs.items() if run["jobType"] == stage]


def test_an_offline_run_is_uploaded_later_without_loss(uploaded):
    folder, server = uploaded
    assert {run["groupName"] for run in server.runs.values()} == {"smoke"}
    assert sorted(run["jobType"] for run in server.runs.values()) == ["epitome"] * 3 + ["evaluate", "grpo", "sft"]
    for stage in ("sft", "grpo"):
        (name,) = runs_of(server, stage)
        (written,) = (folder / "artifacts" / stage).glob("*/metrics.jsonl")
        rows = [{key: value for key, value in row.items() if "distribution" not in key} for row in server.rows(name)]
        assert rows == numbers(written)
        config = json.loads(server.runs[name]["config"])
        assert config["grpo"]["value"]["beta"] == 0.04
        assert "paths" not in config
    (grpo,) = runs_of(server, "grpo")
    tables = [json.loads(content) for (run, name), content in server.files.items() if run == grpo and "completions" in name]
    written = [json.loads(line) for line in (folder / "run" / "completions.jsonl").read_text().splitlines()]
    shown = [dict(zip(table["columns"], row, strict=True)) for table in tables for row in table["data"]]
    assert sorted(row["response"] for row in shown) == sorted(row["response"] for row in written)
    assert set(shown[0]) >= {"step", "prompt", "thought", "response", "reference_response", "reward", "reward_consistency"}
    assert all(row["prompt"].startswith(("seeker: ", "supporter: ")) for row in shown)


def test_every_metric_of_a_panel_is_logged_and_every_logged_metric_has_a_panel(uploaded):
    _, server = uploaded
    logged = {name for run in server.runs for row in server.rows(run) for name in row} - {"step"}
    drawn = {metric for plan in panels.DASHBOARD for metric in plan.metrics}
    scores = {metric for plan in panels.SCORE_CHARTS for metric in plan.metrics}
    assert {name for name in logged if not name.startswith("eval/")} == drawn - scores - NOT_LOGGED
    assert logged & scores >= {panels.score_name(policy, "BLEU-2") for policy in ("zero_shot", "sft", "grpo")}
    media = {key for run in server.history.values() for line in run.values() for key in json.loads(line)}
    assert {plan.key for plan in (*panels.TABLES, *panels.DISTRIBUTIONS)} <= media


def test_the_key_is_in_no_file_of_an_offline_run(uploaded):
    folder, server = uploaded
    files = [path for path in (folder / "run").rglob("*") if path.is_file()]
    assert len([path for path in files if path.suffix == ".wandb"]) == 6
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert not [name for name, content in server.files.items() if KEY.encode() in content]


def test_a_killed_and_resumed_run_is_one_run_with_each_step_once(tmp_path, cache, monkeypatch):
    def command(name):
        return [
            sys.executable, "-m", "fires_exp", *RUN, "logger=wandb", "recipe.stages=[sft]", "recipe.policies=[]",
            "sft.epochs=9", "sft.max_steps=9", "sft.checkpoint_every_steps=2",
            "sft.validate_every_steps=null", f"paths.artifacts={tmp_path / 'artifacts'}",
            f"paths.cache={cache}", f"hydra.run.dir={tmp_path / name}",
        ]  # fmt: skip

    def steps():
        return [len(file.read_text().splitlines()) for file in (tmp_path / "artifacts" / "sft").glob("*/metrics.jsonl")]

    monkeypatch.delenv("WANDB_SERVICE", raising=False)  # of runs in this process
    process = subprocess.Popen(command("first"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not steps() or steps()[0] < 3:
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    done = subprocess.run(command("second"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (written,) = (tmp_path / "artifacts" / "sft").glob("*/metrics.jsonl")
    with wandb_server() as server:
        sync(server, *offline_runs(tmp_path / "first"), *offline_runs(tmp_path / "second"))
        (name,) = server.runs
        assert server.rows(name) == numbers(written)
        assert [row["step"] for row in server.rows(name)] == list(range(9))
    assert [bool(glob.glob(f"{tmp_path / name}/logs/wandb/*/*.synced")) for name in ("first", "second")] == [True, True]


@pytest.fixture
def opened(tmp_path):
    """A function that opens a logger of GRPO after `steps` were done."""

    def start(*overrides, steps=(), rows=()):
        config = composed("+experiment=smoke", *overrides)
        stage_folder = tmp_path / "stage"
        stage_folder.mkdir(exist_ok=True)
        (stage_folder / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
        (stage_folder / "completions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        logger = open_logger(config, stage="grpo", stage_folder=stage_folder, run_folder=tmp_path)
        replay_steps(
            logger,
            config.logger,
            metrics=stage_folder / "metrics.jsonl",
            completions=stage_folder / "completions.jsonl",
        )
        return logger

    return start


def test_an_online_run_is_uploaded_when_its_stage_ends(opened, monkeypatch, caplog):
    with wandb_server() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        logger = opened("logger=wandb_online")
        for step in range(3):
            logger.log_metrics({"reward/total": step / 2}, step=step)
        logger.finalize("success")
        assert server.rows(logger.version) == [{"reward/total": step / 2, "step": step} for step in range(3)]
        assert any(server.authorizations)
    assert warnings_of(caplog) == []


def test_a_server_that_dies_during_a_run_is_one_warning_and_the_rest_is_uploaded_later(opened, monkeypatch, caplog):
    with wandb_server() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        logger = opened("logger=wandb_online", "logger.finish_seconds=1")
        logger.log_metrics({"reward/total": 0.0}, step=0)
    shown, longest = composed("+experiment=smoke").logger, 0.0
    for step in range(1, 20):
        began = time.monotonic()
        log_completions([logger], shown, [ROW], step)
        logger.log_metrics({"reward/total": step / 2}, step=step)
        longest = max(longest, time.monotonic() - began)
    assert longest < 1
    began = time.monotonic()
    logger.finalize("success")
    assert time.monotonic() - began < 10
    (line,) = warnings_of(caplog)
    assert line.startswith("W&B: ")
    assert "within 1 s" in line
    assert f"`wandb sync {logger.folder}`" in line
    with wandb_server() as server:
        sync(server, str(logger.folder))
        assert [row["reward/total"] for row in server.rows(logger.version)] == [step / 2 for step in range(20)]


def test_an_upload_process_that_ends_is_one_warning_and_the_run_continues(opened, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_API_KEY", "no key at all")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    logger = opened("logger=wandb_online")
    until = time.monotonic() + 30
    while not logger.sync_process.has_ended and time.monotonic() < until:
        time.sleep(0.05)
    for step in range(3):
        logger.log_metrics({"reward/total": 0.0}, step=step)
    logger.finalize("success")
    (line,) = warnings_of(caplog)
    assert line.startswith("W&B: the upload process ended")
    assert str(logger.sync_log) in line


def test_any_exception_of_wandb_is_one_warning_and_the_run_continues(opened, monkeypatch, caplog):
    logger = opened("logger=wandb")

    def fail(*args, **kwargs):
        raise BrokenPipeError("the service is gone")

    monkeypatch.setattr(logger.run, "log", fail)
    for step in range(3):
        logger.log_metrics({"reward/total": 0.0}, step=step)
    (line,) = warnings_of(caplog)
    assert line.startswith("W&B: BrokenPipeError: the service is gone; ")
    logger.run.finish()


def test_a_wandb_that_does_not_start_is_one_warning_and_metrics_go_to_csv(opened, monkeypatch, caplog, tmp_path):
    def fail(**kwargs):
        raise RuntimeError("The wandb service process exited with 1.\nIts log: …")

    monkeypatch.setattr("wandb.init", fail)
    logger = opened("logger=wandb", steps=[{"step": 0, "reward/total": 0.25}])
    log_completions([logger], composed("+experiment=smoke").logger, [ROW], 1)
    logger.log_metrics({"reward/total": 0.5}, step=1)
    logger.finalize("success")
    table = tmp_path / "logs" / "grpo" / "csv"
    assert (table / "metrics.csv").read_text().splitlines()[1:] == ["0.25,0", "0.5,1"]
    assert warnings_of(caplog) == [
        "W&B: RuntimeError: The wandb service process exited with 1.; grpo goes on without it, with its numbers in " + str(table)
    ]


def test_tensorboard_has_layout_texts_distributions_and_each_step_once(opened, tmp_path):
    done = [{"step": step, "reward/total": step / 2} for step in range(3)]
    first = opened("logger=tensorboard", steps=done[:1], rows=[ROW])
    first.log_metrics({"reward/total": 7.0}, step=1)  # after the last checkpoint, so repeated below
    first.finalize("failed")
    second = opened("logger=tensorboard", steps=done, rows=[ROW])
    second.finalize("success")
    events = EventAccumulator(str(tmp_path / "logs" / "grpo" / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("reward/total")] == [(0, 0.0), (1, 0.5), (2, 1.0)]
    assert {plan.key for plan in panels.DISTRIBUTIONS} == set(events.Tags()["distributions"])
    text = events.Tensors("completions/text_summary")[-1]
    assert rb"Told me &lt;b&gt;what&lt;/b&gt;?" in text.tensor_proto.string_val[0]
    board = events.Tensors("custom_scalars__config__")[-1]
    categories = Layout.FromString(board.tensor_proto.string_val[0]).category
    assert [category.title for category in categories] == ["Rewards", "Form", "Health", "Policy", "Aspects", "Speed"]


def test_the_configured_number_of_completions_is_logged_and_none_if_it_is_0(opened, tmp_path):
    rows = [{**ROW, "place": place} for place in range(5)]
    assert len(completions_table.table(rows, 3)) == 3
    logger = opened("logger=tensorboard", "logger.completions=0", steps=[{"step": 0, "reward/total": 0.0}], rows=rows)
    logger.finalize("success")
    events = EventAccumulator(str(tmp_path / "logs" / "grpo" / "tensorboard")).Reload()
    assert "completions/text_summary" not in events.Tags()["tensors"]
    assert "distribution/reward" in events.Tags()["distributions"]


def test_markup_in_a_completion_is_displayed_and_secrets_are_hidden(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnopqrst")
    (shown,) = completions_table.table([{**ROW, "response": "seeker: a|b <script> _x_\nhf_abcdefghijklmnopqrst"}], 1)
    assert shown["response"] == "seeker: a|b <script> _x_\n***"
    assert r"|seeker: a\|b &lt;script&gt; \_x\_<br>\*\*\*|" in completions_table.as_markdown([shown])
