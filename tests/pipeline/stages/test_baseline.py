"""Models behind a service as baselines of our policies: what they are asked, how their answers become predictions."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from faulty_server import completion, half_a_body, raw, serving, status
from hydra import compose, initialize_config_module

from fires_exp.config.load import load_config, register_schema, write_yaml
from fires_exp.errors import ConfigError, ServiceError
from fires_exp.pipeline.run import run_recipe

CONF = Path(__file__).resolve().parents[3] / "conf"
SAMPLE = Path(__file__).resolve().parents[3] / "src" / "fires_exp" / "data" / "sample_corpus"
BASELINES = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml") if "recipe: baseline" in path.read_text())
SMALL = [
    "scale=smoke", "frames.max_frames=1", "trainer.progress=false", "dataset.limit.test=4",
]  # fmt: skip
THINKING = "<think>\nResponse Strategy: I should listen.\n</think>\n<response>I am listening.</response>"


def served(url):
    return [
        f"baseline.base_url={url}",
        "baseline.api_key_env=null",
        "baseline.backoff_seconds=0.01",
        "baseline.requests_per_minute=60000",
    ]


@pytest.fixture
def start(tmp_path, cache):
    """Run an experiment in a folder of its own and give the folder back."""
    register_schema()

    def go(experiment, *overrides, name="run"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        places = [f"paths.artifacts={tmp_path / 'artifacts'}", f"paths.cache={cache}"]
        with initialize_config_module("fires_exp.conf", version_base="1.3"):
            config = load_config(compose("config", overrides=[f"+experiment={experiment}", *SMALL, *places, *overrides]))
        write_yaml(config, folder / "resolved.yaml")
        run_recipe(config, folder)
        return folder

    return go


def predictions(folder):
    return [json.loads(line) for line in (folder / "predictions" / "baseline.jsonl").read_text().splitlines()]


def text(content):
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def thinks(experiment):
    return experiment.endswith(("fixed", "flexible"))


@pytest.mark.parametrize("experiment", BASELINES)
def test_every_baseline_answers_and_is_scored_like_any_policy(start, experiment):
    with serving(lambda body: THINKING if thinks(experiment) else "I am listening.") as server:
        folder = start(experiment, *served(server.url))
    rows = predictions(folder)
    assert len(rows) == len(server.requests) == 4
    assert {row["response"] for row in rows} == {"I am listening."}
    assert {row["thought"] for row in rows} == {"Response Strategy: I should listen." if thinks(experiment) else ""}
    assert all(row["well_formed"] and row["context"] and row["reference_response"] for row in rows)
    table = json.loads((folder / "metrics.json").read_text())
    assert table["policies"]["baseline"][0]["count"] == 4
    assert len(table["shots"]) == (0 if "0shot" in experiment else 3)
    page = (folder / "report.html").read_text()
    assert table["baseline"] in page
    assert "random backbone" not in page  # no backbone has answered
    body = server.requests[0]
    assert [message["role"] for message in body["messages"]] == [
        "system", *["user", "assistant"] * len(table["shots"]), "user",
    ]  # fmt: skip
    assert ("temperature" in body) == (experiment != "deepseek_r1_3shot")
    pictures = [part for message in body["messages"] if isinstance(message["content"], list) for part in message["content"]]
    assert bool(pictures) == experiment.startswith("gpt_4o")


def test_worked_examples_come_from_train_alone_and_are_the_same_for_all(start):
    with serving(lambda body: "Hm.") as server:
        folder = start("gpt_4o_3shot", *served(server.url))
        shots = json.loads((folder / "metrics.json").read_text())["shots"]
        few = start("gpt_4o_3shot", *served(server.url), "baseline.shots=2", name="few")
        other = start("gpt_4o_3shot", *served(server.url), "seed=43", name="other")
    assert json.loads((few / "metrics.json").read_text())["shots"] == shots[:2]
    assert json.loads((other / "metrics.json").read_text())["shots"] != shots
    train = json.loads((SAMPLE / "split_ids.json").read_text())["train"]
    assert {int(shot.split("-")[1]) for shot in shots} <= set(train)
    openings = {json.dumps(body["messages"][:-1]) for body in server.requests[:4]}
    assert len(openings) == 1


@pytest.mark.parametrize(("experiment", "labels"), [("gpt_4o_3shot_fixed", 4), ("gpt_4o_3shot_flexible", 1)])
def test_worked_examples_think_as_the_plan_says(start, experiment, labels):
    with serving(lambda body: THINKING) as server:
        start(experiment, *served(server.url))
    system, _, worked = (text(message["content"]) for message in server.requests[0]["messages"][:3])
    assert ("each of these aspects" in system) == experiment.endswith("fixed")
    assert worked.startswith("<think>\n")
    assert worked.endswith("</response>")
    assert sum(f"{label}:" in worked for label in ("Visual Scene", "Emotion", "Situation", "Response Strategy")) >= labels


def test_a_model_s_own_reasoning_is_kept_apart_from_its_response(start):
    def say(handler, body):
        thought = completion("I hear you.", reasoning_content="She is sad.")
        handler.send(200, json.dumps(thought).encode())

    with serving(lambda body: "<think>\nShe is sad.\n</think>\n\nI hear you.", [say]) as server:
        rows = predictions(start("deepseek_r1_3shot", *served(server.url)))
    for row in rows:
        assert (row["reasoning"], row["response"], row["completion"]) == ("She is sad.", "I hear you.", "I hear you.")
        assert row["thought"] == ""
        assert row["well_formed"]


def test_a_refusal_is_an_empty_answer_and_is_scored(start):
    with serving(lambda body: "I hear you.", [status(400, "content policy")]) as server:
        rows = predictions(start("gpt_4o_0shot", *served(server.url), "baseline.max_concurrent_requests=1"))
    assert (rows[0]["response"], rows[0]["well_formed"], rows[0]["finish_reason"]) == ("", False, "refused")
    assert rows[0]["refusal"] == "status 400: content policy"
    assert [row["response"] for row in rows[1:]] == ["I hear you."] * 3


def test_a_service_that_refuses_everything_is_an_error_not_a_row_of_zeros_and_is_asked_again(start, tmp_path):
    unknown = status(400, "Unsupported parameter: 'max_tokens'")
    with serving(lambda body: "I hear you.", [unknown] * 4) as server:
        with pytest.raises(
            ServiceError, match=r"gpt-4o-\S+ refuses all 4 instances, the last: status 400: Unsupported parameter"
        ):
            start("gpt_4o_0shot", *served(server.url))
        assert not (tmp_path / "run" / "metrics.json").exists()
        assert [row["response"] for row in predictions(start("gpt_4o_0shot", *served(server.url)))] == ["I hear you."] * 4


def test_faults_change_nothing_and_a_second_run_asks_nothing(start):
    with serving(lambda body: "I hear you.", [status(500), half_a_body, raw(b"<html>")]) as server:
        first = start("gpt_4o_0shot", *served(server.url))
        assert len(server.requests) == 7
        second = start("gpt_4o_0shot", *served(server.url), name="second")
    assert len(server.requests) == 7
    assert predictions(first) == predictions(second)


def test_a_dry_run_counts_the_baseline_s_requests_and_sends_nothing(start, capsys):
    with serving() as server:
        folder = start("gpt_4o_3shot_flexible", *served(server.url), "baseline.dry_run=true")
    assert server.requests == []
    assert "4 requests to gpt-4o-2024-11-20 at http://127.0.0.1" in capsys.readouterr().out
    assert not (folder / "metrics.json").exists()


def test_too_few_train_instances_for_the_examples_are_named_before_anything_is_made(start, tmp_path):
    with serving() as server, pytest.raises(ConfigError, match=r"baseline\.shots=3, but the train split has 2 instances"):
        start("gpt_4o_3shot", *served(server.url), "dataset.limit.train=2")
    assert not (tmp_path / "artifacts").exists()


def test_a_teacher_of_worked_examples_without_a_key_or_its_file_stops_the_run_before_anything_is_made(
    start, tmp_path, monkeypatch
):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with serving(lambda body: THINKING) as server:
        with pytest.raises(ConfigError, match=r"export OPENAI_API_KEY=<key>"):
            start("gpt_4o_3shot_flexible", *served(server.url), "teacher=openai")
        with pytest.raises(ConfigError, match=r"baseline\.batch_results=gone\.jsonl"):
            start("gpt_4o_3shot_flexible", *served(server.url), "baseline.batch_results=gone.jsonl")
        with pytest.raises(ConfigError, match=r"teacher\.dry_run .*recipe=baseline"):
            start("gpt_4o_3shot_flexible", *served(server.url), "teacher=openai", "teacher.dry_run=true")
        assert server.requests == []
        assert not (tmp_path / "artifacts").exists()
        start("gpt_4o_3shot", *served(server.url), "teacher=openai")  # whose examples do not think
    assert len(server.requests) == 4


def command(folder, cache, url, name):
    places = [f"paths.artifacts={folder / 'artifacts'}", f"paths.cache={cache}", f"hydra.run.dir={folder / name}"]
    settings = [*served(url), "baseline.max_concurrent_requests=3", "dataset.limit.test=24"]
    return [sys.executable, "-m", "fires_exp", "+experiment=gpt_4o_3shot", *SMALL[:-1], *settings, *places]


@pytest.mark.slow
def test_a_baseline_that_was_killed_is_asked_what_is_missing_and_no_more(tmp_path, cache):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with serving(lambda body: "I hear you.", delay=0.1) as server:
        first = subprocess.Popen(
            command(tmp_path, cache, server.url, "killed"), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while len(server.requests) < 10:
            assert first.poll() is None, "the run ended before it was killed"
            time.sleep(0.01)
        first.kill()
        first.wait()
        time.sleep(0.3)  # what was under way is answered into the void
        (response_file,) = (tmp_path / "artifacts" / "answers").glob("*.jsonl")
        kept, sent = response_file.read_text().count("\n"), len(server.requests)
        assert sent < 24
        assert sent - kept <= 3
        again = subprocess.run(
            command(tmp_path, cache, server.url, "again"), env=environment, capture_output=True, text=True, check=False
        )
        assert again.returncode == 0, again.stderr
    assert len(server.requests) - sent == 24 - kept
    assert len(server.distinct()) == 24
    assert len(predictions(tmp_path / "again")) == 24
