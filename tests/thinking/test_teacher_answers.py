"""A teacher's answers: format, leaks of the response, retries."""

from dataclasses import replace

import pytest
from making import make_example

from fires_exp.prompts.teacher import prompt_hash, retry_message, teacher_messages
from fires_exp.services.messages import NO_USAGE, ChatMessage, ChatResponse, Refusal, Usage
from fires_exp.thinking.aspects import Aspect, ThinkingPlan
from fires_exp.thinking.bank import BankedThought, read_bank, write_bank
from fires_exp.thinking.demonstrations import DEMONSTRATIONS
from fires_exp.thinking.leakage import leaked_words
from fires_exp.thinking.synthesis import SetAside, Teacher, thoughts_by_model
from fires_exp.thinking.teacher_answer import InvalidThoughtError, LeakLimits, parse_teacher_answer

ALL = tuple(Aspect)
LIMITS = LeakLimits(max_words=5, max_share=0.6)
EXAMPLE = make_example(
    turns=("I lost my job and I cannot tell my wife.",),
    response="That sounds lonely, carrying it alone. What are you afraid she might say?",
)
GOOD = "Visual Scene: Not helpful\nEmotion: shame\nSituation: Unknown\nResponse Strategy: I should explore the fear."


def plan(kind="flexible", aspects=ALL):
    return ThinkingPlan(kind=kind, aspects=aspects)


def read(text, plan=plan(), example=EXAMPLE):
    return parse_teacher_answer(text, plan, example, LIMITS)


def test_a_flexible_thought_has_only_the_helpful_aspects():
    assert read(GOOD).aspects == {
        Aspect.EMOTION: "shame",
        Aspect.SITUATION: "Unknown",
        Aspect.RESPONSE_STRATEGY: "I should explore the fear.",
    }


def test_white_space_and_empty_lines_are_ignored():
    assert read("\n  " + GOOD.replace("\n", "\n\n") + "\n\n") == read(GOOD)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "The answer is empty"),
        ("Here is the thinking:\n" + GOOD, '"Here is the thinking:" is none of the lines'),
        (GOOD + "\nHope this helps!", '"Hope this helps!" is none'),
        (GOOD.replace("Emotion:", "1. Emotion:"), '"1. Emotion: shame" is none'),
        (GOOD.replace("Emotion:", "emotion:"), '"emotion: shame" is none'),
        (GOOD.replace("Emotion:", "**Emotion:**"), r"without \*\*"),
        ("```\n" + GOOD + "\n```", "without ```"),
        ("<think>" + GOOD + "</think>", "without <think>"),
        (GOOD.replace("Emotion: shame\n", ""), "The line Emotion is missing or empty"),
        (GOOD.replace("shame", ""), "The line Emotion is missing or empty"),
        (GOOD + "\nEmotion: fear", "Emotion comes twice"),
        (GOOD.replace("shame\n", "shame "), "The line of Emotion holds another aspect"),
        (GOOD.replace("I should explore the fear.", "Not helpful"), "Response Strategy is always needed"),
        (GOOD.replace("I should explore the fear.", "Unknown."), "Response Strategy is always needed"),
        (GOOD.replace("explore the fear", "ask what are you afraid she might say"), "is taken from the supporter's response"),
    ],
)
def test_any_other_format_is_rejected_with_a_reason_for_the_teacher(text, reason):
    with pytest.raises(InvalidThoughtError, match=reason):
        read(text)


@pytest.mark.parametrize("aspect", ALL)
def test_an_aspect_outside_of_the_plan_is_rejected_and_not_required(aspect):
    without = plan(aspects=tuple(other for other in ALL if other is not aspect))
    with pytest.raises(InvalidThoughtError, match=f"{aspect.label} is not asked for"):
        read(GOOD, without)
    shortened = "\n".join(line for line in GOOD.split("\n") if not line.startswith(aspect.label))
    assert aspect not in read(shortened, without).aspects


def test_a_fixed_thought_has_every_aspect():
    with pytest.raises(InvalidThoughtError, match="Every aspect is needed here; write something for Visual Scene"):
        read(GOOD, plan("fixed"))
    assert list(read(GOOD.replace("Not helpful", "Unknown"), plan("fixed")).aspects) == list(ALL)


def test_a_free_thought_is_prose_without_aspect_names():
    free = plan("free", ())
    assert read("She hides it.\nI should be careful.", free).prose == "She hides it. I should be careful."
    with pytest.raises(InvalidThoughtError, match='"Emotion:" names an aspect'):
        read("Emotion: shame", free)
    with pytest.raises(InvalidThoughtError, match="is taken from"):
        read("I should say that sounds lonely, carrying it alone.", free)


@pytest.mark.parametrize(
    ("text", "response", "history", "leaked"),
    [
        ("ask what she is afraid he might do", "What are you afraid of?", "", ""),
        ("one two three four five", "one two three four five six seven eight nine", "", ""),
        ("so: one two three four five six", "one two three four five six seven", "", "one two three four five six"),
        ("ONE, two; three", "One two three.", "", "one two three"),
        ("I see", "I see.", "", ""),
        ("my brother sleeps in his car now", "Your brother sleeps in his car now?", "My brother sleeps in his car now.", ""),
        # blocks: 2 + 3 + 2 of 8 words are more than 0.6
        ("one two and three four five and seven eight", "one two three four five six seven eight", "", "one two … three"),
        ("one two and seven eight", "one two three four five six seven eight", "", ""),
    ],
)  # fmt: skip
def test_leaks_are_long_runs_or_a_large_share_of_the_response(text, response, history, leaked):
    words = leaked_words(text, response, history, max_words=5, max_share=0.6)
    assert words.startswith(leaked) if leaked else words == ""


@pytest.mark.parametrize(
    "required",
    [plan(), plan("fixed"), plan("free", ()), *(plan(aspects=tuple(o for o in ALL if o is not left)) for left in ALL)],
    ids=lambda plan: f"{plan.kind}-{len(plan.aspects)}",
)
def test_every_demonstration_is_a_valid_answer(required):
    for demonstration in DEMONSTRATIONS:
        parse_teacher_answer(demonstration.answer(required), required, demonstration.example, LIMITS)


def test_the_demonstrations_each_stress_other_aspects():
    helpful = [demonstration.helpful for demonstration in DEMONSTRATIONS]
    assert len(set(helpful)) == len(helpful) == 3
    assert all(Aspect.RESPONSE_STRATEGY in aspects for aspects in helpful)
    assert {Aspect.VISUAL_SCENE in aspects for aspects in helpful} == {True, False}
    assert {read(d.answer(plan()), example=d.example).status(Aspect.SITUATION) for d in DEMONSTRATIONS} == {
        "included", "unknown", "omitted",
    }  # fmt: skip


def text_of(messages):
    return "\n".join(str(part) for message in messages for part in message.parts)


def test_the_prompt_ends_with_conversation_labels_and_response_of_the_instance():
    example = replace(
        EXAMPLE,
        history=tuple(replace(turn, emotions=("sadness",)) for turn in EXAMPLE.history),
        target=replace(EXAMPLE.target, strategies=("open question",)),
    )
    messages = teacher_messages(example, [[]], plan())
    assert [message.role for message in messages] == ["system", *["user", "assistant"] * 3, "user"]
    last = text_of(messages[-1:])
    assert "Seeker: I lost my job" in last
    assert "The supporter's response: That sounds lonely" in last
    assert "(the seeker's emotion: sadness; strategy: open question)" in last
    assert "sadness" not in text_of(teacher_messages(example, [[]], plan(aspects=(Aspect.SITUATION,)))[-1:])
    assert "hint" not in text_of(teacher_messages(EXAMPLE, [[]], plan())[-1:])


@pytest.mark.parametrize("aspect", ALL)
def test_an_aspect_outside_of_the_plan_is_not_in_the_prompt(aspect):
    without = plan(aspects=tuple(other for other in ALL if other is not aspect))
    assert f"{aspect.label}:" not in text_of(teacher_messages(EXAMPLE, [[]], without))
    assert f"{aspect.label}:" in text_of(teacher_messages(EXAMPLE, [[]], plan()))
    assert prompt_hash(without) != prompt_hash(plan())


def test_a_fixed_prompt_lacks_not_helpful_and_a_free_one_names_no_aspect():
    assert "Not helpful" not in text_of(teacher_messages(EXAMPLE, [[]], plan("fixed")))
    free = text_of(teacher_messages(EXAMPLE, [[]], plan("free", ())))
    assert not [aspect for aspect in ALL if f"{aspect.label}:" in free]


def teacher(attempts=3):
    return Teacher(
        name="openai",
        plan=plan(),
        prompt_hash="abc",
        messages=lambda example: (ChatMessage(role="user", parts=(example.id,)),),
        parse=lambda text, example: read(text, example=example),
        retry_message=retry_message,
        attempts=attempts,
    )


def scripted(script, finish_reason="stop"):
    """A chat backend with a list of answers per instance; it records the chats."""
    chats = []

    def complete(requests):
        for request in requests:
            chats.append(request.messages)
            text = script[request.id].pop(0)
            if isinstance(text, Refusal):
                yield request, text
            else:
                usage = Usage(prompt_tokens=10, completion_tokens=1)
                yield (
                    request,
                    ChatResponse(
                        text=text, reasoning="", finish_reason=finish_reason, model="m-1", usage=usage, seconds=0.5, created="now"
                    ),
                )

    return complete, chats


def test_a_rejected_answer_is_retried_with_the_reason_in_the_chat():
    backend, chats = scripted({"a": ["Sure!", GOOD]})
    (banked,) = thoughts_by_model(teacher(), backend, [make_example("a", response=EXAMPLE.reference_response)])
    assert isinstance(banked, BankedThought)
    assert banked.thought == read(GOOD)
    assert (banked.model, banked.prompt_hash, banked.seconds) == ("m-1", "abc", 1.0)
    assert banked.usage == Usage(prompt_tokens=20, completion_tokens=2)
    assert [message.role for message in chats[1]] == ["user", "assistant", "user"]
    assert chats[1][1].parts == ("Sure!",)
    assert '"Sure!" is none of the lines asked for' in chats[1][2].parts[0]


def test_an_instance_without_a_valid_answer_is_set_aside_with_its_answers():
    script = {"a": ["Sure!", "", "Emotion: x"], "b": [GOOD], "c": [Refusal(reason="status 400: no", usage=NO_USAGE)]}
    backend, chats = scripted(script)
    results = list(thoughts_by_model(teacher(), backend, [make_example(name, response="Oh?") for name in "abc"]))
    assert [result.example_id for result in results] == ["b", "c", "a"]
    (_, refused, aside) = results
    assert refused == SetAside(example_id="c", reason="status 400: no", answers=())
    assert aside.reason == "The line Visual Scene is missing or empty."
    assert [text for text, _ in aside.answers] == ["Sure!", "", "Emotion: x"]
    assert len(chats) == 5


def test_a_truncated_answer_is_rejected_even_if_it_parses():
    backend, _ = scripted({"a": [GOOD]}, finish_reason="length")
    (aside,) = thoughts_by_model(teacher(attempts=1), backend, [make_example("a")])
    assert aside.reason.startswith("The answer was cut off")


def test_a_bank_stores_model_usage_and_time_which_are_optional(tmp_path):
    backend, _ = scripted({"a": [GOOD]})
    banked = list(thoughts_by_model(teacher(), backend, [make_example("a")]))
    write_bank(tmp_path / "bank.jsonl", banked)
    assert read_bank(tmp_path / "bank.jsonl") == {"a": banked[0]}
    (tmp_path / "own.jsonl").write_text(
        '{"example_id": "a", "plan": "flexible", "teacher": "me", "prompt_hash": "", "created": "", '
        '"aspects": {}, "prose": "x"}\n'
    )
    assert read_bank(tmp_path / "own.jsonl")["a"].usage == Usage(prompt_tokens=0, completion_tokens=0)
