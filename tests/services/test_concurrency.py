"""Requests to a faulty service: retries, refusals, budget, cache."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from faulty_server import dribble, dribble_error, half_a_body, raw, serving, status
from making import face

from fires_exp.errors import ConfigError, ServiceError
from fires_exp.services.budget import Budget
from fires_exp.services.client import parse_retry_after
from fires_exp.services.concurrency import ConcurrentClient
from fires_exp.services.messages import NO_USAGE, ChatMessage, ChatRequest, ChatResponse, Refusal, Usage
from fires_exp.services.response_cache import ResponseCache

KEY = "sk-very-secret-0123456789"
USAGE = {"prompt_tokens": 100, "completion_tokens": 20}


def make_requests(count, first=0):
    for index in range(first, first + count):
        yield ChatRequest(id=f"q{index}", messages=(ChatMessage(role="user", parts=(f"Say {index}",)),))


def echo(body):
    return body["messages"][-1]["content"].removeprefix("Say ")


@pytest.fixture
def send(tmp_path, quick):
    """Send requests to a server, with the cache that earlier calls have filled; responses by request id."""

    def run(server, requests, key_file=None, **changes):
        config = quick(server.url, **changes)
        client = ConcurrentClient(config, ResponseCache(tmp_path / "answers.jsonl"), Budget(config, key_file))
        return {request.id: response for request, response in client.complete(requests)}

    return run


def test_each_request_gets_its_own_response(send):
    with serving(echo) as server:
        responses = send(server, make_requests(20))
    assert {id: response.text for id, response in responses.items()} == {f"q{index}": str(index) for index in range(20)}
    assert responses["q3"].usage.prompt_tokens == 100
    assert responses["q3"].model == "stub-2026"
    assert len(server.requests) == 20


@pytest.mark.parametrize(
    "fault",
    [
        status(429, "slow down"),
        status(500, "oops"),
        status(503),
        half_a_body,
        raw(b"<html>busy</html>"),
        raw(b"{}"),
        raw(b'{"choices": []}'),
        raw(b'{"choices": [{"message": {"content": null}}]}'),
        raw(b'{"choices": [{"message": {"content": 5}}]}'),
        raw(b""),
        raw(b"\xff\xfe"),
    ],
    ids=lambda fault: None,
)
def test_a_temporary_fault_is_retried_and_costs_one_more_request(send, fault):
    with serving(echo, [fault]) as server:
        assert send(server, make_requests(1))["q0"].text == "0"
    assert len(server.requests) == 2


def silent(handler, body):
    time.sleep(1.0)
    handler.close_connection = True


@pytest.mark.parametrize("slow", [dribble, dribble_error, silent])
def test_a_slow_or_silent_service_is_cut_off_at_the_timeout(send, slow):
    with serving(echo, [slow]) as server:
        started = time.monotonic()
        assert send(server, make_requests(1), timeout_seconds=0.3)["q0"].text == "0"
    assert time.monotonic() - started < 3


def test_retry_after_is_honored(send):
    with serving(echo, [status(429, "slow down", [("Retry-After", "0.4")])]) as server:
        send(server, make_requests(1), backoff_seconds=0.001)
    assert server.arrivals[1] - server.arrivals[0] >= 0.4


def test_retry_after_may_be_a_date_and_an_invalid_value_is_ignored():
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 25 < parse_retry_after(date) <= 30
    assert parse_retry_after("2.5") == 2.5
    assert parse_retry_after("-3") == 0
    assert parse_retry_after("soon") is None
    assert parse_retry_after(None) is None


def test_a_retry_after_above_max_wait_seconds_ends_the_retries(send):
    with (
        serving(echo, [status(429, "tomorrow", [("Retry-After", "3600")])]) as server,
        pytest.raises(ServiceError, match=r"1 requests .*tomorrow.*teacher\.max_wait_seconds"),
    ):
        send(server, make_requests(1))
    assert len(server.requests) == 1


def test_waits_double_with_each_retry(send):
    with serving(echo, [status(500)] * 3) as server:
        send(server, make_requests(1), backoff_seconds=0.08)
    gaps = [after - before for before, after in zip(server.arrivals, server.arrivals[1:], strict=False)]
    for gap, least in zip(gaps, (0.04, 0.08, 0.16), strict=True):
        assert least <= gap < 3 * least + 0.3


def test_a_permanent_failure_is_reported_at_the_end_and_other_responses_are_stored(send, tmp_path):
    with serving(echo, [status(500, "kaputt")] * 2) as server:
        with pytest.raises(ServiceError, match=r"1 requests .* q0: status 500: kaputt"):
            send(server, make_requests(5), retries=1, max_concurrent_requests=1)
        assert len(ResponseCache(tmp_path / "answers.jsonl")) == 4
        assert len(send(server, make_requests(5))) == 5
    assert len(server.requests) == 2 + 4 + 1


def test_a_service_that_is_down_stops_the_run_after_give_up_after_requests(send):
    with (
        serving(echo, [status(500, "down")] * 1000) as server,
        pytest.raises(ServiceError, match=r"3 requests .*status 500: down"),
    ):
        send(server, make_requests(100), retries=0, give_up_after=3, max_concurrent_requests=1)
    assert len(server.requests) <= 5


def test_a_refused_connection_is_a_one_line_error(send):
    with serving(echo) as server:
        pass
    with pytest.raises(ServiceError, match=r"cannot connect to http://127\.0\.0\.1:\d+/v1/chat/completions") as caught:
        send(server, make_requests(1), retries=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("code", [401, 403, 404, 302])
def test_a_failure_common_to_all_requests_stops_at_once(send, code):
    with (
        serving(echo, [status(code, "not for you")]) as server,
        pytest.raises(ServiceError, match=f"status {code}: not for you"),
    ):
        send(server, make_requests(50), max_concurrent_requests=1)
    assert len(server.requests) <= 2


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (401, r"teacher\.api_key_env=null"),
        (403, r"teacher\.api_key_env=null"),
        (404, r"teacher\.model.*teacher\.base_url"),
    ],
)
def test_a_wrong_key_model_or_address_is_named_by_its_configuration_key(send, code, remedy):
    with serving(echo, [status(code, "not for you")]) as server, pytest.raises(ServiceError, match=f"not for you; .*{remedy}"):
        send(server, make_requests(1))


def test_the_first_retry_is_logged_at_once_and_later_ones_are_not(send, caplog):
    with serving(echo, [status(500, "kaputt")] * 3) as server:
        send(server, make_requests(4), max_concurrent_requests=1)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("q0: status 500: kaputt")


def test_an_exhausted_quota_is_not_retried(send):
    gone = json.dumps({"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}).encode()
    with (
        serving(echo, [lambda handler, body: handler.send(429, gone)]) as server,
        pytest.raises(ServiceError, match="You exceeded your quota"),
    ):
        send(server, make_requests(1))
    assert len(server.requests) == 1


def test_a_rejected_request_is_a_refusal_not_an_error(send):
    filtered = {"choices": [{"finish_reason": "content_filter", "message": {"content": ""}}]}
    said_no = {"choices": [{"finish_reason": "stop", "message": {"content": None, "refusal": "I will not."}}]}
    faults = [status(400, "too long"), raw(json.dumps(filtered).encode()), raw(json.dumps(said_no).encode())]
    with serving(echo, faults) as server:
        responses = send(server, make_requests(4), max_concurrent_requests=1)
    assert [responses[f"q{index}"] for index in range(3)] == [
        Refusal(reason="status 400: too long", usage=NO_USAGE),
        Refusal(reason="refused: content filter", usage=NO_USAGE),
        Refusal(reason="refused: I will not.", usage=NO_USAGE),
    ]
    assert isinstance(responses["q3"], ChatResponse)


def refusing(handler, body):
    """A refusal with usage: the service processed the request."""
    facts = {"choices": [{"message": {"content": None, "refusal": "I will not."}}], "usage": USAGE}
    handler.send(200, json.dumps(facts).encode())


def test_a_billed_refusal_counts_against_the_budget_and_is_cached(send):
    # a response and a refusal cost 100 * 1 + 20 * 2 = 140 millionths each
    priced = {"price_prompt": 1.0, "price_completion": 2.0, "max_concurrent_requests": 1, "give_up_after": 3}
    with serving(echo, [refusing, status(400, "too long")]) as server:
        first = send(server, make_requests(3), max_cost=0.001, **priced)
        assert first["q0"] == Refusal(reason="refused: I will not.", usage=Usage(**USAGE))
        again = send(server, make_requests(3), max_cost=0.001, **priced)
        assert again["q0"] == first["q0"]
        assert len(server.requests) == 4  # the rejection without usage is free and is sent again
        with pytest.raises(ServiceError, match=r"max_cost=0\.0005.*0\.0004.* 3 requests"):
            send(server, make_requests(4), max_cost=0.0005, **priced)
        assert len(server.requests) == 4


def test_the_api_key_is_sent_to_the_service_and_appears_nowhere_else(send, monkeypatch, tmp_path):
    monkeypatch.setenv("STUB_KEY", KEY)
    with serving(echo, [status(401, f"Incorrect API key provided: {KEY}")]) as server:
        with pytest.raises(ServiceError, match=r"Incorrect API key provided: \*\*\*") as caught:
            send(server, make_requests(1), api_key_env="STUB_KEY")
        send(server, make_requests(1), api_key_env="STUB_KEY")
    assert server.authorizations == [f"Bearer {KEY}"] * 2
    assert KEY not in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY in path.read_text()]


@pytest.mark.parametrize("value", [None, "  ", "sk-schlüssel", "two words"])
def test_a_missing_or_invalid_key_is_named_by_its_variable(send, monkeypatch, value):
    monkeypatch.delenv("STUB_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("STUB_KEY", value)
    with serving(echo) as server, pytest.raises(ConfigError, match="STUB_KEY") as caught:
        send(server, make_requests(1), api_key_env="STUB_KEY")
    assert server.requests == []
    assert "schlüssel" not in str(caught.value)


def test_max_requests_holds_over_repeated_runs(send):
    with serving(echo) as server:
        for _ in range(2):
            with pytest.raises(ServiceError, match=r"teacher\.max_requests=7"):
                send(server, make_requests(20), max_requests=7, timeout_seconds=60.0)
        assert len(server.requests) == 7
        assert len(send(server, make_requests(20))) == 20
    assert len(server.requests) == 20


def test_retries_count_against_the_budget(send):
    with serving(echo, [status(500)] * 100) as server, pytest.raises(ServiceError, match="max_requests=2"):
        send(server, make_requests(1), max_requests=2)
    assert len(server.requests) == 2


def test_max_cost_is_never_exceeded(send):
    # a response costs 100 * 1 + 20 * 2 = 140 millionths; a request at most 1 * 1 + 50 * 2 = 101 by its estimate
    with serving(echo) as server, pytest.raises(ServiceError, match=r"max_cost=0\.001.*0\.00\d+"):
        send(server, make_requests(50), max_cost=0.001, price_prompt=1.0, price_completion=2.0, max_concurrent_requests=1)
    assert len(server.requests) == 7  # 7 * 140 = 980


def test_a_request_waits_for_budget_reserved_by_requests_in_flight(send):
    # a response costs 20 * 2 = 40 millionths, and may cost 50 * 2 = 100: of 250, two may be in flight at a time, and after four
    # (160) no fifth fits
    priced = {"price_prompt": 0.0, "price_completion": 2.0, "max_concurrent_requests": 4}
    with serving(echo, delay=0.05) as server:
        assert len(send(server, make_requests(4), max_cost=0.00025, **priced)) == 4
        assert server.most_busy == 2
        with pytest.raises(ServiceError, match=r"max_cost=0\.00025.*0\.0002.* 4 requests"):
            send(server, make_requests(8), max_cost=0.00025, **priced)
    assert len(server.requests) == 4


def test_a_resumed_stage_with_other_requests_keeps_its_spent_budget(send, tmp_path):
    key_file = tmp_path / "asked.txt"
    with serving(echo) as server:
        send(server, make_requests(4), key_file)
        send(server, make_requests(4), key_file)  # cached, and counted once
        key_file.write_text(key_file.read_text() + "0123")  # as after a kill
        with pytest.raises(ServiceError, match=r"teacher\.max_requests=7"):
            send(server, make_requests(20, first=4), key_file, max_requests=7, max_concurrent_requests=1)
        assert len(server.requests) == 7
        assert len(send(server, make_requests(20, first=4), key_file, max_requests=24)) == 20
    keys = key_file.read_text().splitlines()
    assert len(keys) == len(set(keys)) == 24
    assert {len(key) for key in keys} == {40}


def test_consecutive_refusals_are_counted_over_all_calls_of_a_client(quick, tmp_path):
    with serving(echo, [status(400, "no pictures here")] * 9) as server:
        config = quick(server.url, max_concurrent_requests=1, give_up_after=4)
        client = ConcurrentClient(config, ResponseCache(tmp_path / "answers.jsonl"), Budget(config, None))
        assert all(isinstance(response, Refusal) for _, response in client.complete(make_requests(3)))
        with pytest.raises(ServiceError, match=r"4 requests .*no pictures here"):
            list(client.complete(make_requests(3)))


def test_max_concurrent_requests_and_requests_per_minute_are_respected(send):
    with serving(echo, delay=0.05) as server:
        send(server, make_requests(12), max_concurrent_requests=3, requests_per_minute=60 / 0.02)
    assert 2 <= server.most_busy <= 3
    assert server.arrivals[-1] - server.arrivals[0] >= 11 * 0.02 - 0.02


def test_requests_are_generated_lazily(send, quick, tmp_path):
    made = []

    def lazily():
        for question in make_requests(100):
            made.append(question.id)
            yield question

    with serving(echo) as server:
        config = quick(server.url, max_concurrent_requests=2)
        client = ConcurrentClient(config, ResponseCache(tmp_path / "a.jsonl"), Budget(config, None))
        responses = client.complete(lazily())
        next(responses)
        assert len(made) <= 4
        responses.close()
    assert threading.active_count() < 20


def test_a_cached_request_is_not_sent_again_and_another_image_is_another_request(send):
    def about(color):
        return [ChatRequest(id="p", messages=(ChatMessage(role="user", parts=(face(color), "Who is it?")),))]

    with serving(lambda body: "A face.") as server:
        for color in ("red", "red", "blue"):
            send(server, about(color))
        assert len(server.requests) == 2
        send(server, about("red"), max_tokens=51)
    assert len(server.requests) == 3
    (picture, text) = server.requests[0]["messages"][0]["content"]
    assert picture["image_url"]["url"].startswith("data:image/jpeg;base64,/9j/")
    assert text == {"type": "text", "text": "Who is it?"}


def test_a_partial_line_in_the_cache_is_removed_and_an_invalid_one_is_named(send, tmp_path):
    path = tmp_path / "answers.jsonl"
    with serving(echo) as server:
        send(server, make_requests(3))
        whole = path.read_bytes()
        path.write_bytes(whole[:-30])
        send(server, make_requests(3))
        assert len(server.requests) == 4
        assert len(ResponseCache(path)) == 3
    path.write_bytes(b"{}\n" + whole)
    with pytest.raises(ServiceError, match=r"answers\.jsonl:1:"):
        ResponseCache(path)


def test_reasoning_is_separated_from_the_text(send):
    faults = [
        raw(json.dumps({"choices": [{"message": {"content": "Hello.", "reasoning_content": "Greet."}}]}).encode()),
        raw(json.dumps({"choices": [{"message": {"content": "<think>\nGreet.\n</think>\n\nHello."}}]}).encode()),
        raw(json.dumps({"choices": [{"message": {"content": "Greet.</think>Hello."}}]}).encode()),
        raw(json.dumps({"choices": [{"message": {"content": "<think>Emotion: joy</think><response>Hi</response>"}}]}).encode()),
        raw(
            json.dumps(
                {"choices": [{"message": {"content": "<think>Hm</think><think>a</think><response>b</response>"}}]}
            ).encode()
        ),
    ]
    with serving(echo, faults) as server:
        responses = send(server, make_requests(5), max_concurrent_requests=1)
    texts = [(responses[f"q{index}"].reasoning, responses[f"q{index}"].text) for index in range(5)]
    assert texts == [
        ("Greet.", "Hello."),
        ("Greet.", "Hello."),
        ("Greet.", "Hello."),
        ("", "<think>Emotion: joy</think><response>Hi</response>"),
        ("Hm", "<think>a</think><response>b</response>"),
    ]
