"""Random completions and teacher answers: a result or an error with a reason, never a traceback."""

import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from making import FLEXIBLE, make_example

from fires_exp.data.readers.utterances import clean_text
from fires_exp.services.responses import split_reasoning
from fires_exp.thinking.aspects import Aspect, ThinkingPlan
from fires_exp.thinking.leakage import leaked_words
from fires_exp.thinking.tags import TAGS, parse_completion, render_completion
from fires_exp.thinking.teacher_answer import InvalidThoughtError, LeakLimits, parse_teacher_answer
from fires_exp.thinking.thought import Thought, parse_thought

PLANS = (
    FLEXIBLE,
    ThinkingPlan(kind="fixed", aspects=tuple(Aspect)),
    ThinkingPlan(kind="flexible", aspects=(Aspect.EMOTION, Aspect.RESPONSE_STRATEGY)),
    ThinkingPlan(kind="free", aspects=()),
    ThinkingPlan(kind="none", aspects=()),
)
LEAKS = LeakLimits(max_words=5, max_share=0.6)
PIECES = [
    *TAGS,
    *(f"{aspect.label}:" for aspect in Aspect),
    "not helpful",
    "Unknown",
    "neutral",
    "\n",
    " ",
    ".",
    "**",
    "<|x|>",
    "a",
]

plans = st.sampled_from(PLANS)
thinking_plans = st.sampled_from(PLANS[:4])
# any characters, and the words that a parser searches for, in any order
wild = st.one_of(
    st.text(max_size=200), st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=4)), max_size=20).map("".join)
)
# text on one line without markup
plain = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters=":<>*#`"), min_size=1, max_size=30)


@given(wild, plans)
def test_any_completion_can_be_parsed_and_a_well_formed_one_is_rendered_back(text, plan):
    parsed = parse_completion(text, plan)
    assert not any(tag in part for tag in TAGS for part in (parsed.thought, parsed.response))
    if parsed.well_formed:
        assert parse_completion(render_completion(parsed.thought, parsed.response, plan), plan) == parsed


@given(plain, plain, plans)
def test_a_rendered_completion_is_parsed_back(thought, response, plan):
    parsed = parse_completion(render_completion(thought, response, plan), plan)
    assert parsed.well_formed
    assert (parsed.thought, parsed.response) == (thought if plan.thinks else "", response)


@given(wild)
def test_any_thought_can_be_parsed_and_is_parsed_back(text):
    thought = parse_thought(text)
    assert parse_thought(thought.text) == thought
    assert {thought.status(aspect) for aspect in Aspect} <= {"included", "omitted", "neutral", "unknown"}


@given(st.dictionaries(st.sampled_from(list(Aspect)), plain), st.one_of(st.just(""), plain))
def test_the_text_of_a_thought_is_parsed_back(aspects, prose):
    assume(not any(words.lower().strip(" .") == "not helpful" for words in aspects.values()))
    thought = Thought(aspects=aspects, prose=prose)
    assert parse_thought(thought.text) == thought


@given(wild, wild, thinking_plans)
def test_any_teacher_answer_gives_a_thought_or_an_error_in_one_sentence(text, response, plan):
    try:
        thought = parse_teacher_answer(text, plan, make_example(response=response), LEAKS)
    except InvalidThoughtError as error:
        assert str(error).endswith((".", "?"))
        assert "\n" not in str(error)
    else:
        assert set(thought.aspects) <= set(plan.aspects)
        assert bool(thought.prose) == (plan.kind == "free")
        assert not any(tag in thought.text for tag in TAGS)
        assert parse_completion(render_completion(thought.text, "Yes.", plan), plan).well_formed


@given(st.lists(plain, min_size=4, max_size=4))
def test_a_teacher_answer_in_the_requested_form_is_its_thought(words):
    aspects = dict(zip(Aspect, words, strict=True))
    assume(not any(text.lower().strip(" .") in ("not helpful", "unknown", "none") for text in words))
    assert parse_teacher_answer(Thought(aspects=aspects).text, PLANS[1], make_example(response="Yes."), LEAKS).aspects == aspects


@given(wild, wild, wild)
def test_leaked_words_are_parts_of_the_text(text, response, history):
    leaks = leaked_words(text, response, history, max_words=5, max_share=0.6)
    assert all(leak in " ".join(text.lower().split()) or "'" in leak or " " in leak for leak in leaks.split(" … "))


@given(wild)
def test_clean_text_has_no_tags_and_is_idempotent(text):
    cleaned = clean_text(text)
    assert clean_text(cleaned) == cleaned
    assert not any(tag in cleaned.lower() for tag in TAGS)
    assert not set(cleaned) & set("\n\r\t\0\x1b")
    cleaned.encode("utf-8")  # no surrogates


@pytest.mark.parametrize("start", ["", "<think>"])
@pytest.mark.parametrize("piece", ["</think><response>", "<think>", "</think> ", "Emotion: ", "<|", "<|<|", "<<think>", " \n"])
def test_a_megabyte_is_parsed_in_seconds(start, piece):
    half = piece * (500_000 // len(piece))
    text = start + half + half[::-1].translate(str.maketrans("<>", "><"))
    started = time.perf_counter()
    parse_completion(text, FLEXIBLE)
    split_reasoning(text)
    parse_thought(text)
    clean_text(text)
    assert time.perf_counter() - started < 5
