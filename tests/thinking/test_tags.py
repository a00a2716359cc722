"""The format of a completion, and the response of a malformed one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fires_exp.thinking.aspects import Aspect, ThinkingPlan
from fires_exp.thinking.tags import TAGS, parse_completion, render_completion

FLEXIBLE = ThinkingPlan(kind="flexible", aspects=tuple(Aspect))
NONE = ThinkingPlan(kind="none", aspects=())


def test_parsing_inverts_rendering():
    parsed = parse_completion(render_completion("Emotion: sad", "I hear you.", FLEXIBLE), FLEXIBLE)
    assert (parsed.thought, parsed.response, parsed.well_formed) == ("Emotion: sad", "I hear you.", True)


@pytest.mark.parametrize(
    "text",
    [
        "<think> a </think><response> b </response>",
        "<think>a</think>\n\n<response>b</response>\n",
        "  <think>a</think> <response>b</response>",
    ],
)
def test_white_space_around_tags_is_allowed(text):
    parsed = parse_completion(text, FLEXIBLE)
    assert (parsed.thought, parsed.response, parsed.well_formed) == ("a", "b", True)


@pytest.mark.parametrize(
    ("text", "response"),
    [
        ("b", "b"),
        ("<response>b</response>", "b"),
        ("<think>a</think>b", "b"),
        ("<think>a</think><response>b", "b"),
        ("<think>a</think><response></response>", ""),
        ("<think></think><response>b</response>", "b"),
        ("x<think>a</think><response>b</response>", "b"),
        ("<think>a</think>x<response>b</response>", "b"),
        ("<think>a</think><response>b</response>x", "b x"),
        ("<think>a</think><response>b</response><response>c</response>", "c"),
        ("<think>a<think>a</think><response>b</response>", "b"),
        ("<THINK>a</THINK><response>b</response>", "b"),
        ("<think>a", ""),
        ("", ""),
    ],
)
def test_any_other_text_is_malformed_and_has_a_response_for_the_metrics(text, response):
    parsed = parse_completion(text, FLEXIBLE)
    assert not parsed.well_formed
    assert " ".join(parsed.response.split()) == response


def test_without_thinking_a_completion_is_the_bare_response():
    assert render_completion("", "Hello.", NONE) == "Hello."
    assert parse_completion(" Hello. ", NONE).response == "Hello."
    assert parse_completion("Hello.", NONE).well_formed
    assert not parse_completion("<response>Hello.</response>", NONE).well_formed
    assert not parse_completion(" ", NONE).well_formed


@given(st.lists(st.sampled_from([*TAGS, "a", " ", "\n", "<", "Emotion: x"]), max_size=12).map("".join))
def test_any_text_parses_to_a_thought_and_response_without_tags(text):
    parsed = parse_completion(text, FLEXIBLE)
    assert not any(tag in parsed.response or tag in parsed.thought for tag in TAGS)
    if parsed.well_formed:
        assert parsed.thought
        assert parsed.response
