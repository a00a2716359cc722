"""Thoughts by a model, as a run: against a faulty service on loopback, and by the backbone itself."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from faulty_server import THOUGHT, completion, half_a_body, raw, serving, status
from hydra import compose, initialize_config_module

from fires_exp.config.load import load_config, register_schema, write_yaml
from fires_exp.errors import ConfigError, DataError, ServiceError, StageError
from fires_exp.pipeline import chat_models
from fires_exp.pipeline.run import run_recipe
from fires_exp.policy.completion import Completion

KEY = "sk-very-secret-0123456789"
SMALL = [
    "scale=smoke", "frames.max_frames=2", "trainer.progress=false",
    "dataset.limit.train=8", "dataset.limit.val=2", "dataset.limit.test=3",
]  # fmt: skip


def served(url):
    return [
        "teacher=openai", f"teacher.base_url={url}", "teacher.model=stub", "teacher.requests_per_minute=60000",
        "teacher.backoff_seconds=0.01",
    ]  # fmt: skip


@pytest.fixture
def start(tmp_path, cache, monkeypatch):
    """Run overrides in a folder of their own and give the folder back."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    register_schema()

    def go(*overrides, name="run"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        places = [f"paths.artifacts={tmp_path / 'artifacts'}", f"paths.cache={cache}"]
        with initialize_config_module("fires_exp.conf", version_base="1.3"):
            config = load_config(compose("config", overrides=[*SMALL, "recipe=synthesize", *places, *overrides]))
        write_yaml(config, folder / "resolved.yaml")
        run_recipe(config, folder)
        return folder

    return go


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def chat(body):
    """The texts of a request, without its pictures."""
    contents = [message["content"] for message in body["messages"]]
    return "\n".join(
        content if isinstance(content, str) else "".join(part.get("text", "") for part in content) for content in contents
    )


def test_thoughts_come_from_the_service_and_keep_who_made_them(start, capsys):
    with serving() as server:
        folder = start(*served(server.url))
    bank = lines(folder / "thoughts.jsonl")
    assert len(bank) == len(server.requests) == 8
    assert bank[0]["aspects"] == {
        "emotion": "worry", "situation": "Unknown", "response_strategy": "I should find out more.",
    }  # fmt: skip
    assert (bank[0]["teacher"], bank[0]["model"], bank[0]["plan"]) == ("openai", "stub-2026", "flexible")
    assert bank[0]["usage"] == {"prompt_tokens": 100, "completion_tokens": 20}
    assert len(bank[0]["prompt_hash"]) == 12
    assert bank[0]["seconds"] > 0
    assert not (folder / "set_aside.jsonl").exists()
    pictures = [part for part in server.requests[0]["messages"][-1]["content"] if part["type"] == "image_url"]
    assert 1 <= len(pictures) <= 2
    assert pictures[0]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    table = capsys.readouterr().out.splitlines()
    assert table[0].split() == ["%", "of", "8", "thoughts", "included", "neutral", "unknown", "omitted"]
    assert table[4].split() == ["Situation", "0.0", "0.0", "100.0", "0.0"]
    assert (folder / "aspect_shares.svg").read_text().startswith("<svg")


def test_faults_on_the_way_cost_a_request_each_and_change_nothing(start):
    faults = [status(429, "slow down", [("Retry-After", "0.1")]), status(500), half_a_body, raw(b"<html>")]
    with serving(faults=faults) as server:
        folder = start(*served(server.url))
    assert len(lines(folder / "thoughts.jsonl")) == 8
    assert len(server.requests) == 12


def test_a_wrong_answer_is_asked_again_with_its_reason_and_a_stubborn_one_is_set_aside(start):
    def say(body):
        asked = chat(body)
        if "Write the whole answer again." in asked:
            return THOUGHT if "is none of the lines asked for" in asked else "Emotion: x"
        stubborn = len(server.requests) <= 2
        return "" if stubborn else f"Here you are:\n{THOUGHT}"

    with serving(say) as server:
        folder = start(*served(server.url), "teacher.max_concurrent_requests=1")
        aside = lines(folder / "set_aside.jsonl")
        assert len(lines(folder / "thoughts.jsonl")) == 6
        assert [one["reason"] for one in aside] == ["The line Visual Scene is missing or empty."] * 2
        assert [text for text, _ in aside[0]["answers"]] == ["", "Emotion: x", "Emotion: x"]
        assert len(server.requests) == 8 + 8 + 2
        trained = start(*served(server.url), "recipe=sft_only", name="trained")
        assert len(server.requests) == 18
    assert "sft" in json.loads((trained / "metrics.json").read_text())["policies"]


def test_where_not_one_answer_will_do_the_run_says_so(start):
    with (
        serving(lambda body: "No.") as server,
        pytest.raises(StageError, match=r"none of 8 thoughts .*set_aside\.jsonl"),
    ):
        start(*served(server.url), "teacher.attempts=1")


def test_a_larger_draw_and_other_limits_pay_for_what_is_new_alone(start):
    with serving() as server:
        start(*served(server.url), "dataset.limit.train=5")
        assert len(server.requests) == 5
        start(*served(server.url))
        assert len(server.requests) == 8
        start(*served(server.url), "teacher.max_leaked_words=4")
        start(*served(server.url), "teacher.requests_per_minute=50000", "teacher.max_concurrent_requests=2")
        assert len(server.requests) == 8


@pytest.mark.parametrize(
    ("aspects", "answer", "kept"),
    [
        ("fixed", THOUGHT.replace("Not helpful", "A room."), ["visual_scene", "emotion", "situation", "response_strategy"]),
        ("wo_scene", THOUGHT.replace("Visual Scene: Not helpful\n", ""), ["emotion", "situation", "response_strategy"]),
        ("wo_emotion", THOUGHT.replace("Emotion: worry\n", ""), ["situation", "response_strategy"]),
        ("wo_situation", THOUGHT.replace("Situation: Unknown\n", ""), ["emotion", "response_strategy"]),
        ("wo_strategy", THOUGHT.split("\nResponse")[0], ["emotion", "situation"]),
        ("free", "The seeker is worried and I should find out more.", []),
    ],
)
def test_every_plan_has_thoughts_of_its_own(start, aspects, answer, kept):
    with serving(lambda body: answer) as server:
        folder = start(*served(server.url), f"aspects={aspects}", "dataset.limit.train=2")
    (row, _) = lines(folder / "thoughts.jsonl")
    assert list(row["aspects"]) == kept
    assert bool(row["prose"]) == (aspects == "free")


def test_without_video_no_picture_is_sent(start):
    with serving() as server:
        start(*served(server.url), "frames=none", "dataset.limit.train=2")
    assert isinstance(server.requests[0]["messages"][-1]["content"], str)


def test_salient_frames_are_other_pictures_and_no_more_of_them(start):
    sent = {}
    for choice in ("keyframes", "salient"):
        with serving() as server:
            start(*served(server.url), f"frames={choice}", "frames.max_frames=2", "dataset.limit.train=2", name=choice)
        shown = [part for body in server.requests for part in body["messages"][-1]["content"] if part["type"] == "image_url"]
        sent[choice] = {part["image_url"]["url"] for part in shown}
        assert 2 <= len(shown) <= 4
    assert sent["salient"] - sent["keyframes"]


def test_a_dry_run_counts_and_sends_nothing(start, monkeypatch, capsys):
    monkeypatch.delenv("OPENAI_API_KEY")
    with serving() as server:
        folder = start(*served(server.url), "teacher.dry_run=true", "teacher.price_prompt=2.0", "teacher.price_completion=10.0")
        assert server.requests == []
    said = capsys.readouterr().out
    assert "8 requests to stub at http://127.0.0.1" in said
    assert "(0 responses are cached)" in said
    assert "3200 completion tokens" in said  # 8 * 400
    prompt, frame_tokens, frames = map(
        int, re.search(r"about (\d+) prompt tokens, (\d+) of them for (\d+) frames", said).groups()
    )
    assert 8 <= frames <= 16
    assert frame_tokens == frames * 255
    assert f"cost at most {(2 * prompt + 10 * 3200) / 1e6:.2f}" in said
    assert not (folder / "thoughts.jsonl").exists()


def test_a_batch_service_s_files_are_written_and_read(start, tmp_path, capsys):
    requests, results = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    with serving() as server:
        start(*served(server.url), f"teacher.batch_requests={requests}")
        assert server.requests == []
        assert f"8 requests are in {requests}" in capsys.readouterr().out
        asked = lines(requests)
        assert (asked[0]["method"], asked[0]["url"]) == ("POST", "/v1/chat/completions")
        answered = [
            {"custom_id": row["custom_id"], "response": {"status_code": 200, "body": completion(THOUGHT)}, "error": None}
            for row in asked[:6]
        ]
        failed = {"custom_id": asked[6]["custom_id"], "response": {"status_code": 500, "body": {}}, "error": None}
        results.write_text("".join(json.dumps(row) + "\n" for row in [*answered, failed]))
        folder = start(*served(server.url), f"teacher.batch_results={results}")
        assert len(server.requests) == 2
        assert len(lines(folder / "thoughts.jsonl")) == 8
        with pytest.raises(ConfigError, match=r"teacher\.batch_requests=.*cannot be written \(No such file or directory\)"):
            start(*served(server.url), f"teacher.batch_requests={tmp_path / 'nowhere' / 'x.jsonl'}")
        results.write_text('{"custom_id": 1}\n')
        with pytest.raises(ServiceError, match=r"results\.jsonl:1: not a result"):
            start(*served(server.url), f"teacher.batch_results={results}", "dataset.limit.train=7")


def test_the_key_is_in_no_file(start, tmp_path):
    with serving(faults=[status(401, f"wrong key {KEY}")]) as server:
        with pytest.raises(ServiceError, match=r"wrong key \*\*\*"):
            start(*served(server.url))
        start(*served(server.url))
        assert server.authorizations[0] == f"Bearer {KEY}"
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]


def test_a_missing_key_stops_the_run_before_anything_is_made(start, monkeypatch, tmp_path):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigError, match="export OPENAI_API_KEY=<key>"):
        start(*served("http://127.0.0.1:9/v1"))
    assert not (tmp_path / "artifacts").exists()


def test_the_backbone_can_be_its_own_teacher_and_goes_on_where_it_was(start, tmp_path):
    local = ["teacher=local", "aspects=free", "teacher.max_tokens=5", "teacher.temperature=1.0", "dataset.limit.train=3"]
    with pytest.raises(StageError, match=r"none of 3 thoughts"):  # a random model does not stop by itself within 5 tokens
        start(*local, "teacher.attempts=2")
    (response_file,) = (tmp_path / "artifacts" / "answers").glob("backbone-tiny.jsonl")
    answers = lines(response_file)
    assert len(answers) == 6
    assert all(0 < row["usage"]["completion_tokens"] <= 5 for row in answers)
    with pytest.raises(StageError):
        start(*local, "teacher.attempts=2")
    assert lines(response_file) == answers


def test_the_backbone_s_thoughts_are_banked_with_its_name(start, monkeypatch):
    def worried(policy, prompts, config, seeds):
        said = Completion(ids=torch.ones(7, dtype=torch.long), logprobs=torch.zeros(7), text=THOUGHT, finish_reason="stop")
        return [[said] for _ in prompts]

    monkeypatch.setattr(chat_models, "sample_completions", worried)
    folder = start("teacher=local", "dataset.limit.train=3")
    row = lines(folder / "thoughts.jsonl")[0]
    assert (row["teacher"], row["model"], row["usage"]["completion_tokens"]) == ("local", "tiny", 7)
    assert row["aspects"]["emotion"] == "worry"


def test_a_question_too_long_for_the_backbone_says_which_limit_it_breaks(start):
    with pytest.raises(DataError, match=r"teacher\.max_prompt_tokens=100"):
        start("teacher=local", "teacher.max_prompt_tokens=100", "dataset.limit.train=1")


def command(folder, cache, url, name):
    places = [f"paths.artifacts={folder / 'artifacts'}", f"paths.cache={cache}", f"hydra.run.dir={folder / name}"]
    settings = [*served(url), "teacher.max_concurrent_requests=3", "teacher.api_key_env=null", "dataset.limit.train=30"]
    return [sys.executable, "-m", "fires_exp", *SMALL, "recipe=synthesize", *settings, *places]


@pytest.mark.slow
def test_a_kill_loses_at_most_the_requests_under_way_and_none_is_made_twice_but_those(tmp_path, cache):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with serving(delay=0.1) as server:
        first = subprocess.Popen(
            command(tmp_path, cache, server.url, "killed"), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while len(server.requests) < 12:
            assert first.poll() is None, "the run ended before it was killed"
            time.sleep(0.01)
        first.kill()
        first.wait()
        time.sleep(0.3)  # what was under way is answered into the void
        (response_file,) = (tmp_path / "artifacts" / "answers").glob("*.jsonl")
        kept, sent = response_file.read_text().count("\n"), len(server.requests)
        assert sent < 30
        assert sent - kept <= 3
        again = subprocess.run(
            command(tmp_path, cache, server.url, "again"), env=environment, capture_output=True, text=True, check=False
        )
        assert again.returncode == 0, again.stderr
    assert len(server.requests) - sent == 30 - kept
    assert len(server.distinct()) == 30
    assert len((Path(tmp_path) / "again" / "thoughts.jsonl").read_text().splitlines()) == 30
