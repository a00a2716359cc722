"""Asking a service that misbehaves: what is tried again, what is not, what it may cost, what is kept."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from faulty_server import dribble, half_a_body, raw, serving, status
from making import face

from fires_exp.errors import ConfigError, ServiceError
from fires_exp.services.asked_keys import Tally
from fires_exp.services.client import retry_after
from fires_exp.services.concurrency import Crowd
from fires_exp.services.messages import NOTHING, Answer, ChatMessage, Question, Refusal, Usage
from fires_exp.services.response_cache import Ledger

KEY = "sk-very-secret-0123456789"
USAGE = {"prompt_tokens": 100, "completion_tokens": 20}


def questions(count, first=0):
    for place in range(first, first + count):
        yield Question(id=f"q{place}", messages=(ChatMessage(role="user", parts=(f"Say {place}",)),))


def echo(body):
    return body["messages"][-1]["content"].removeprefix("Say ")


@pytest.fixture
def ask(tmp_path, quick):
    """Ask a server, with the ledger that earlier calls have filled; answers by question."""

    def go(server, many, tally=None, **changes):
        crowd = Crowd(quick(server.url, **changes), Ledger(tmp_path / "answers.jsonl"), Tally(tally))
        return {question.id: answer for question, answer in crowd.ask(many)}

    return go


def test_each_question_gets_its_own_answer(ask):
    with serving(echo) as server:
        answers = ask(server, questions(20))
    assert {id: answer.text for id, answer in answers.items()} == {f"q{place}": str(place) for place in range(20)}
    assert answers["q3"].usage.prompt_tokens == 100
    assert answers["q3"].model == "stub-2026"
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
def test_a_passing_fault_is_tried_again_and_costs_one_more_request(ask, fault):
    with serving(echo, [fault]) as server:
        assert ask(server, questions(1))["q0"].text == "0"
    assert len(server.requests) == 2


def silent(handler, body):
    time.sleep(1.0)
    handler.close_connection = True


@pytest.mark.parametrize("slow", [dribble, silent])
def test_a_service_that_dribbles_or_says_nothing_is_not_waited_for(ask, slow):
    with serving(echo, [slow]) as server:
        started = time.monotonic()
        assert ask(server, questions(1), timeout_seconds=0.3)["q0"].text == "0"
    assert time.monotonic() - started < 3


def test_retry_after_is_honored(ask):
    with serving(echo, [status(429, "slow down", [("Retry-After", "0.4")])]) as server:
        ask(server, questions(1), backoff_seconds=0.001)
    assert server.arbaselines[1] - server.arbaselines[0] >= 0.4


def test_retry_after_may_be_a_date_and_nonsense_counts_as_nothing():
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 25 < retry_after(date) <= 30
    assert retry_after("2.5") == 2.5
    assert retry_after("-3") == 0
    assert retry_after("soon") is None
    assert retry_after(None) is None


def test_a_service_that_asks_for_too_long_a_wait_is_not_waited_for(ask):
    with (
        serving(echo, [status(429, "tomorrow", [("Retry-After", "3600")])]) as server,
        pytest.raises(ServiceError, match=r"1 requests got no answer.*tomorrow.*asks to wait 3600 s"),
    ):
        ask(server, questions(1))
    assert len(server.requests) == 1


def test_waits_grow_from_try_to_try(ask):
    with serving(echo, [status(500)] * 3) as server:
        ask(server, questions(1), backoff_seconds=0.08)
    gaps = [after - before for before, after in zip(server.arbaselines, server.arbaselines[1:], strict=False)]
    for gap, least in zip(gaps, (0.04, 0.08, 0.16), strict=True):
        assert least <= gap < 3 * least + 0.3


def test_what_fails_for_good_is_named_at_the_end_and_the_others_are_kept(ask, tmp_path):
    with serving(echo, [status(500, "kaputt")] * 2) as server:
        with pytest.raises(
            ServiceError, match=r"1 requests got no answer, the last for q0: status 500: kaputt; the same command"
        ):
            ask(server, questions(5), retries=1, max_concurrent_requests=1)
        assert len(Ledger(tmp_path / "answers.jsonl")) == 4
        assert len(ask(server, questions(5))) == 5
    assert len(server.requests) == 2 + 4 + 1


def test_a_service_that_is_down_stops_the_run_soon(ask):
    with (
        serving(echo, [status(500, "down")] * 1000) as server,
        pytest.raises(ServiceError, match=r"3 requests in a row without an answer.*status 500: down"),
    ):
        ask(server, questions(100), retries=0, give_up_after=3, max_concurrent_requests=1)
    assert len(server.requests) <= 5


def test_nobody_listening_is_one_line(ask):
    with serving(echo) as server:
        pass
    with pytest.raises(ServiceError, match=r"cannot connect to http://127\.0\.0\.1:\d+/v1/chat/completions") as caught:
        ask(server, questions(1), retries=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("code", [401, 403, 404, 302])
def test_what_would_fail_for_every_question_stops_at_once(ask, code):
    with (
        serving(echo, [status(code, "not for you")]) as server,
        pytest.raises(ServiceError, match=f"status {code}: not for you"),
    ):
        ask(server, questions(50), max_concurrent_requests=1)
    assert len(server.requests) <= 2


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (401, r"is the key the one of this service\? teacher\.api_key_env=null"),
        (403, r"is the key the one of this service\? teacher\.api_key_env=null"),
        (404, r"check teacher\.model, and teacher\.base_url up to and without /chat/completions"),
    ],
)
def test_a_wrong_key_model_or_address_is_named_by_its_configuration_key(ask, code, remedy):
    with serving(echo, [status(code, "not for you")]) as server, pytest.raises(ServiceError, match=f"not for you; {remedy}$"):
        ask(server, questions(1))


def test_what_is_tried_again_is_told_at_once_and_once(ask, caplog):
    with serving(echo, [status(500, "kaputt")] * 3) as server:
        ask(server, questions(4), max_concurrent_requests=1)
    assert caplog.messages == ["q0: status 500: kaputt; what fails so is tried again, up to 3 times"]


def test_a_used_up_account_is_not_asked_again(ask):
    gone = json.dumps({"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}).encode()
    with (
        serving(echo, [lambda handler, body: handler.send(429, gone)]) as server,
        pytest.raises(ServiceError, match="You exceeded your quota"),
    ):
        ask(server, questions(1))
    assert len(server.requests) == 1


def test_a_question_that_the_service_refuses_is_a_refusal_not_an_error(ask):
    filtered = {"choices": [{"finish_reason": "content_filter", "message": {"content": ""}}]}
    said_no = {"choices": [{"finish_reason": "stop", "message": {"content": None, "refusal": "I will not."}}]}
    faults = [status(400, "too long"), raw(json.dumps(filtered).encode()), raw(json.dumps(said_no).encode())]
    with serving(echo, faults) as server:
        answers = ask(server, questions(4), max_concurrent_requests=1)
    assert [answers[f"q{place}"] for place in range(3)] == [
        Refusal(reason="status 400: too long", usage=NOTHING),
        Refusal(reason="refused: content filter", usage=NOTHING),
        Refusal(reason="refused: I will not.", usage=NOTHING),
    ]
    assert isinstance(answers["q3"], Answer)


def refusing(handler, body):
    """As services tell it that work on a question and then decline: with what it cost."""
    facts = {"choices": [{"message": {"content": None, "refusal": "I will not."}}], "usage": USAGE}
    handler.send(200, json.dumps(facts).encode())


def test_a_refusal_that_cost_tokens_counts_as_money_and_is_not_paid_for_again(ask):
    # an answer and a refusal cost 100 * 1 + 20 * 2 = 140 millionths each
    priced = {"price_prompt": 1.0, "price_completion": 2.0, "in_flight": 1, "give_up_after": 3}
    with serving(echo, [refusing, status(400, "too long")]) as server:
        first = ask(server, questions(3), max_cost=0.001, **priced)
        assert first["q0"] == Refusal(reason="refused: I will not.", usage=Usage(**USAGE))
        again = ask(server, questions(3), max_cost=0.001, **priced)
        assert again["q0"] == first["q0"]
        assert len(server.requests) == 4  # what was refused unread is free, and is asked again
        with pytest.raises(ServiceError, match=r"max_cost=0\.0005 is used up: 0\.0004 spent in 3 requests"):
            ask(server, questions(4), max_cost=0.0005, **priced)
        assert len(server.requests) == 4


def test_the_key_goes_to_the_service_and_nowhere_else(ask, monkeypatch, tmp_path):
    monkeypatch.setenv("STUB_KEY", KEY)
    with serving(echo, [status(401, f"Incorrect API key provided: {KEY}")]) as server:
        with pytest.raises(ServiceError, match=r"Incorrect API key provided: \*\*\*") as caught:
            ask(server, questions(1), api_key_env="STUB_KEY")
        ask(server, questions(1), api_key_env="STUB_KEY")
    assert server.authorizations == [f"Bearer {KEY}"] * 2
    assert KEY not in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and KEY in path.read_text()]


@pytest.mark.parametrize("value", [None, "  ", "sk-schlüssel", "two words"])
def test_a_missing_or_broken_key_is_named_by_its_variable(ask, monkeypatch, value):
    monkeypatch.delenv("STUB_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("STUB_KEY", value)
    with serving(echo) as server, pytest.raises(ConfigError, match="STUB_KEY") as caught:
        ask(server, questions(1), api_key_env="STUB_KEY")
    assert server.requests == []
    assert "schlüssel" not in str(caught.value)


def test_no_more_requests_than_the_budget_are_sent_however_often_it_is_started(ask):
    with serving(echo) as server:
        for _ in range(2):
            with pytest.raises(ServiceError, match=r"teacher\.max_requests=7 requests are used up; the same command"):
                ask(server, questions(20), max_requests=7, timeout_seconds=60.0)
        assert len(server.requests) == 7
        assert len(ask(server, questions(20))) == 20
    assert len(server.requests) == 20


def test_tries_count_against_the_budget(ask):
    with serving(echo, [status(500)] * 100) as server, pytest.raises(ServiceError, match="max_requests=2"):
        ask(server, questions(1), max_requests=2)
    assert len(server.requests) == 2


def test_money_is_never_overspent(ask):
    # an answer costs 100 * 1 + 20 * 2 = 140 millionths; a question at most 1 * 1 + 50 * 2 = 101 by its estimate
    with serving(echo) as server, pytest.raises(ServiceError, match=r"max_cost=0\.001 is used up: 0\.00\d+ spent"):
        ask(server, questions(50), max_cost=0.001, price_prompt=1.0, price_completion=2.0, max_concurrent_requests=1)
    assert len(server.requests) == 7  # 7 * 140 = 980


def test_a_budget_that_questions_under_way_hold_is_waited_for(ask):
    # an answer costs 20 * 2 = 40 millionths, and may cost 50 * 2 = 100: of 250, two may be under way at a time, and after four
    # (160) there is no room for a fifth
    priced = {"price_prompt": 0.0, "price_completion": 2.0, "in_flight": 4}
    with serving(echo, delay=0.05) as server:
        assert len(ask(server, questions(4), max_cost=0.00025, **priced)) == 4
        assert server.most_busy == 2
        with pytest.raises(ServiceError, match=r"max_cost=0\.00025 is used up: 0\.0002 spent in 4 requests"):
            ask(server, questions(8), max_cost=0.00025, **priced)
    assert len(server.requests) == 4


def test_a_stage_that_goes_on_with_other_questions_has_spent_what_it_had(ask, tmp_path):
    tally = tmp_path / "asked.txt"
    with serving(echo) as server:
        ask(server, questions(4), tally)
        ask(server, questions(4), tally)  # there already, and counted once
        tally.write_text(tally.read_text() + "0123")  # as a kill leaves it
        with pytest.raises(ServiceError, match=r"teacher\.max_requests=7 requests are used up"):
            ask(server, questions(20, first=4), tally, max_requests=7, max_concurrent_requests=1)
        assert len(server.requests) == 7
        assert len(ask(server, questions(20, first=4), tally, max_requests=24)) == 20
    keys = tally.read_text().splitlines()
    assert len(keys) == len(set(keys)) == 24
    assert {len(key) for key in keys} == {40}


def test_refusals_in_a_row_are_counted_over_all_that_one_crowd_is_asked(quick, tmp_path):
    with serving(echo, [status(400, "no pictures here")] * 9) as server:
        crowd = Crowd(
            quick(server.url, max_concurrent_requests=1, give_up_after=4), Ledger(tmp_path / "answers.jsonl"), Tally(None)
        )
        assert all(isinstance(answer, Refusal) for _, answer in crowd.ask(questions(3)))
        with pytest.raises(ServiceError, match=r"4 requests in a row without an answer.*no pictures here"):
            list(crowd.ask(questions(3)))


def test_no_more_requests_than_asked_for_are_under_way_and_they_start_at_an_even_pace(ask):
    with serving(echo, delay=0.05) as server:
        ask(server, questions(12), max_concurrent_requests=3, requests_per_minute=60 / 0.02)
    assert 2 <= server.most_busy <= 3
    assert server.arbaselines[-1] - server.arbaselines[0] >= 11 * 0.02 - 0.02


def test_questions_are_made_as_they_are_needed(ask, quick, tmp_path):
    made = []

    def lazily():
        for question in questions(100):
            made.append(question.id)
            yield question

    with serving(echo) as server:
        answers = Crowd(quick(server.url, max_concurrent_requests=2), Ledger(tmp_path / "a.jsonl"), Tally(None)).ask(lazily())
        next(answers)
        assert len(made) <= 4
        answers.close()
    assert threading.active_count() < 20


def test_an_answered_question_is_not_asked_again_and_another_picture_is_another_question(ask):
    def about(color):
        return [Question(id="p", messages=(ChatMessage(role="user", parts=(face(color), "Who is it?")),))]

    with serving(lambda body: "A face.") as server:
        for color in ("red", "red", "blue"):
            ask(server, about(color))
        assert len(server.requests) == 2
        ask(server, about("red"), max_tokens=51)
    assert len(server.requests) == 3
    (picture, text) = server.requests[0]["messages"][0]["content"]
    assert picture["image_url"]["url"].startswith("data:image/jpeg;base64,/9j/")
    assert text == {"type": "text", "text": "Who is it?"}


def test_half_a_line_in_the_ledger_is_cut_off_and_a_broken_one_is_named(ask, tmp_path):
    path = tmp_path / "answers.jsonl"
    with serving(echo) as server:
        ask(server, questions(3))
        whole = path.read_bytes()
        path.write_bytes(whole[:-30])
        ask(server, questions(3))
        assert len(server.requests) == 4
        assert len(Ledger(path)) == 3
    path.write_bytes(b"{}\n" + whole)
    with pytest.raises(ServiceError, match=r"answers\.jsonl:1: not an answer"):
        Ledger(path)


def test_reasoning_is_kept_apart_from_what_is_said(ask):
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
        answers = ask(server, questions(5), max_concurrent_requests=1)
    said = [(answers[f"q{place}"].reasoning, answers[f"q{place}"].text) for place in range(5)]
    assert said == [
        ("Greet.", "Hello."),
        ("Greet.", "Hello."),
        ("Greet.", "Hello."),
        ("", "<think>Emotion: joy</think><response>Hi</response>"),
        ("Hm", "<think>a</think><response>b</response>"),
    ]
