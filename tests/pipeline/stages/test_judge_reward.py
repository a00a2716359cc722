"""GRPO with a judge's part in its reward, against a service on loopback that misbehaves."""

import json
import re

import pytest
from faulty_server import half_a_body, serving, status
from hydra import compose, initialize_config_module

from fires_exp.config.load import load_config, register_schema, write_yaml
from fires_exp.errors import ConfigError, ServiceError
from fires_exp.pipeline.run import run_recipe
from fires_exp.report.page import gather

KEY = "sk-very-secret-0123456789"
# GRPO alone; without a thought whatever the random backbone says is well-formed
SMALL = [
    "scale=smoke", "frames=none", "aspects=no_thought",
    "recipe=grpo_only", "recipe.stages=[grpo]", "recipe.policies=[]", "trainer.progress=false", "dataset.limit.train=6",
    "grpo.max_steps=3", "grpo.checkpoint_every_steps=1", "grpo.log_completions_every_steps=1",
    "reward=judge", "reward.support_skill_weight=0", "reward.judge.requests_per_minute=60000",
    "reward.judge.backoff_seconds=0.01", "reward.judge.retries=1",
]  # fmt: skip


def sides(body):
    """The two responses that a request compares."""
    lines = body["messages"][1]["content"].splitlines()
    return [next(line[3:] for line in lines if line.startswith(name)) for name in ("A: ", "B: ")]


def longer(body):
    a, b = sides(body)
    return "tie" if len(a) == len(b) else "A" if len(a) > len(b) else "B"


@pytest.fixture
def start(tmp_path, cache, monkeypatch):
    """Run overrides in a folder of their own and give the folder back."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    register_schema()

    def go(server, *overrides, name="run", artifacts="artifacts"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        places = [f"paths.artifacts={tmp_path / artifacts}", f"paths.cache={cache}", f"reward.judge.base_url={server.url}"]
        with initialize_config_module("fires_exp.conf", version_base="1.3"):
            config = load_config(compose("config", overrides=[*SMALL, *places, *overrides]))
        write_yaml(config, folder / "resolved.yaml")
        run_recipe(config, folder)
        return folder

    return go


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def timeless(folder):
    return [
        {name: value for name, value in row.items() if not name.startswith("speed/")} for row in lines(folder / "metrics.jsonl")
    ]


def test_a_step_s_completions_are_judged_at_once_and_shown_everywhere(start):
    with serving(longer, delay=0.02) as server:
        folder = start(server)
    rows = lines(folder / "completions.jsonl")
    assert len(rows) == 3 * 2 * 4
    for row in rows:
        words = " ".join(row["completion"].split())
        assert row["reward_judge"] == (len(words) > len(row["reference_response"])) if words else row["reward"] == 0
        expected = 0.1 * row["reward_format"] + row["reward_consistency"] + row["reward_judge"]
        assert row["reward"] == pytest.approx(expected)
    assert len(server.requests) == len(server.distinct())
    judged = {(row["example_id"], " ".join(row["completion"].split())) for row in rows if row["reward_format"]}
    assert len(server.requests) == 2 * len(judged)
    assert 5 <= server.most_busy <= 16  # both orders of four completions of two prompts, of which a few may be alike
    assert {request["model"] for request in server.requests} == {"gpt-4o-2024-11-20"}
    assert all(isinstance(message["content"], str) for request in server.requests for message in request["messages"])
    logged = lines(folder / "metrics.jsonl")
    assert logged[0]["reward/judge"] == pytest.approx(sum(row["reward_judge"] for row in rows[:8]) / 8)
    (chart,) = [plot for stage in gather(folder).curves for plot in stage.plots if plot.title == "Reward by part"]
    assert "judge" in chart.svg
    assert ("reward_judge", "judge") in {(f"reward_{name}", name) for name, _ in gather(folder).groups[0].samples[0].parts}


def test_a_judge_that_fails_stops_the_run_and_the_rest_is_asked_when_it_is_back(start, tmp_path):
    with serving(longer) as server:
        whole = start(server, name="whole", artifacts="others")
        expected = len(server.requests)

    answered = 0

    def for_a_while(body):
        nonlocal answered
        answered += 1
        if answered == expected // 2:
            server.faults += [status(503, "down")] * 2000
        return longer(body)

    with serving(for_a_while) as server:
        with pytest.raises(ServiceError, match=r"requests .*status 503: down") as caught:
            start(server, "reward.judge.max_concurrent_requests=1", name="failed")
        assert "\n" not in str(caught.value)
        assert list((tmp_path / "artifacts" / "grpo").glob("*/checkpoints/step-*.ckpt"))
        server.faults.clear()
        kept = len(server.answered)
        again = start(server, name="again")
        assert len(server.answered) - kept == expected - kept
    assert timeless(again) == timeless(whole)
    assert lines(again / "completions.jsonl") == lines(whole / "completions.jsonl")


def test_faults_on_the_way_change_nothing_and_a_second_run_asks_nothing(start):
    with serving(longer, [status(429, "slow down", [("Retry-After", "0.1")]), status(500), half_a_body]) as server:
        first = start(server, "reward.judge.retries=4", name="first")
        sent = len(server.requests)
        assert sent == len(server.distinct()) + 3
        second = start(server, "grpo.beta=0.7", name="second")  # another stage, whose first step says the same
        assert len(server.requests) - sent < sent - 3
        third = start(server, name="third")
    assert timeless(first) == timeless(third)
    assert lines(first / "completions.jsonl")[:8] == lines(second / "completions.jsonl")[:8]


def test_nonsense_stops_the_run_and_more_attempts_go_on(start):
    def say(body):
        asked = sum("That is no verdict." in message["content"] for message in body["messages"])
        return longer(body) if asked == 2 else "Both are fine."

    with serving(say) as server:
        with pytest.raises(ServiceError, match=r"no verdict on .* in 2 answers, the last: 'Both are fine\.'"):
            start(server, "reward.judge.attempts=2")
        sent = len(server.requests)
        start(server, "reward.judge.attempts=3", name="again")
        assert len(server.requests) == len(server.distinct()) > sent


def test_the_budget_holds_over_kills(start):
    # an answer costs 100 * 1 + 20 * 2 = 140 millionths
    priced = ["reward.judge.price_prompt=1", "reward.judge.price_completion=2", "reward.judge.max_concurrent_requests=1"]
    with serving(longer) as server:
        for place in range(3):
            with pytest.raises(ServiceError, match=r"reward\.judge\.max_cost=0\.003 is used up: 0\.00\d+ spent in \d+ requests"):
                start(server, *priced, "reward.judge.max_cost=0.003", name=f"run{place}")
        assert 15 <= len(server.requests) <= 21  # 21 * 140 = 2940; the next is held back by its estimate
        start(server, *priced, "reward.judge.max_cost=1")


def test_another_judge_is_another_reward_and_pace_is_not(start, tmp_path):
    with serving(longer) as server:
        start(server)
        start(server, "reward.judge.max_concurrent_requests=2", "reward.judge.max_requests=1000", name="second")
        assert len(list((tmp_path / "artifacts" / "grpo").glob("*/done.json"))) == 1
        start(server, "reward.judge.model=another", name="third")
        assert len(list((tmp_path / "artifacts" / "grpo").glob("*/done.json"))) == 2


def test_a_dry_run_counts_and_sends_nothing(start, capsys, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with serving() as server:
        folder = start(server, "reward.judge.dry_run=true")
        assert server.requests == []
    said = capsys.readouterr().out
    assert "48 requests to gpt-4o-2024-11-20 at http://127.0.0.1" in said  # 3 steps * 2 prompts * 4 completions * 2 orders
    assert "384 completion tokens" in said  # 8 each
    assert re.search(r"cost at most 0\.\d\d", said)
    assert "3 steps of GRPO" in said
    assert not (folder / "metrics.json").exists()


def test_a_missing_key_stops_the_run_before_anything_is_made(start, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with serving() as server, pytest.raises(ConfigError, match=r"reward\.judge\.api_key_env=OPENAI_API_KEY"):
        start(server)
    assert not (tmp_path / "artifacts").exists()


def test_the_key_is_in_no_file(start, tmp_path):
    with serving(longer, [status(401, f"wrong key {KEY}")]) as server:
        with pytest.raises(ServiceError, match=r"wrong key \*\*\*"):
            start(server)
        start(server)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
