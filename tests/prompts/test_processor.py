"""Prompts: content, truncation, padding."""

from dataclasses import replace

import pytest
import torch
from making import FLEXIBLE, face, make_example

from fires_exp.errors import DataError
from fires_exp.prompts.collate import collate
from fires_exp.prompts.processor import PromptEncoder
from fires_exp.prompts.templates import system_prompt
from fires_exp.thinking.aspects import Aspect, ThinkingPlan

LONG = ["First of all, hello.", "Hello.", "I lost my job and do not know what to do.", "Since when?", "Since Monday."]


def text_of(encoder, prompt):
    return encoder.processor.tokenizer.decode(prompt.prompt_ids)


def test_a_prompt_has_system_message_turns_and_frames_in_order(encoder):
    prompt = encoder.encode(make_example(turns=LONG[2:]), [[face("red"), face("red")], [], [face("blue")]])
    text = text_of(encoder, prompt)
    picture = "<|vision_start|>" + "<|image_pad|>" * 16 + "<|vision_end|>"
    assert f"{picture * 2}Seeker: {LONG[2]}\nSupporter: {LONG[3]}\n{picture}Seeker: {LONG[4]}<|im_end|>" in text
    assert text.startswith("<|im_start|>system\n" + system_prompt(FLEXIBLE))
    assert text.endswith("<|im_start|>assistant\n")
    assert prompt.image_grid_thw.tolist() == [[1, 8, 8]] * 3
    assert int(prompt.token_types.sum()) == 3 * 16
    assert prompt.dropped_turns == 0


@pytest.mark.parametrize("left_out", list(Aspect))
def test_an_aspect_outside_of_the_plan_is_not_named(left_out):
    plan = ThinkingPlan(kind="flexible", aspects=tuple(aspect for aspect in Aspect if aspect is not left_out))
    prompt = system_prompt(plan)
    assert f"{left_out.label}:" not in prompt
    assert all(f"{aspect.label}:" in prompt for aspect in plan.aspects)


def test_free_thinking_names_no_aspect_and_a_plan_without_thinking_no_tags():
    free = system_prompt(ThinkingPlan(kind="free", aspects=()))
    none = system_prompt(ThinkingPlan(kind="none", aspects=()))
    assert "<think>" in free
    assert not any(aspect.label in free for aspect in Aspect)
    assert "<" not in none


def test_a_fixed_plan_requires_each_aspect_and_a_flexible_one_those_that_help():
    fixed = system_prompt(ThinkingPlan(kind="fixed", aspects=tuple(Aspect)))
    assert "each of these aspects" in fixed
    assert "that help" in system_prompt(FLEXIBLE)


@pytest.mark.parametrize("dropped", [1, 2, 3, 4])
def test_the_oldest_turns_are_dropped_with_their_frames_until_the_prompt_fits(encoder, tiny, dropped):
    frames = [[face("red")], [], [face("green")], [], [face("blue")]]
    example = make_example(turns=LONG)
    shortened = replace(example, history=example.history[dropped:])
    limit = len(encoder.encode(shortened, frames[dropped:]).prompt_ids)
    prompt = PromptEncoder(tiny.processor, FLEXIBLE, limit).encode(example, frames)
    assert prompt.dropped_turns == dropped
    assert text_of(encoder, prompt) == text_of(encoder, encoder.encode(shortened, frames[dropped:]))
    assert text_of(encoder, prompt).count("<|image_pad|>") == 16 * len(prompt.image_grid_thw) == 16 * (2 if dropped < 3 else 1)


def test_check_fits_names_an_instance_whose_last_turn_is_too_long(tiny):
    with pytest.raises(DataError, match=r"a\.csv:1: .* prompt\.max_tokens=70"):
        PromptEncoder(tiny.processor, FLEXIBLE, 70).check_fits([make_example()])


@pytest.mark.parametrize("text", ["I lost my job. " * 3, "喜" * 11, "ﷺ" * 3, "?!…" * 7, "aﬃ\u0958 " * 4, "", " \n ", "7" * 40])
def test_check_fits_rejects_a_prompt_that_is_one_token_too_long_and_no_shorter_one(encoder, tiny, text):
    example = make_example(turns=[text])
    length = len(encoder.encode(example, [[]]).prompt_ids)
    PromptEncoder(tiny.processor, FLEXIBLE, length).check_fits([example])
    with pytest.raises(DataError, match=rf"{length} tokens.* prompt\.max_tokens"):
        PromptEncoder(tiny.processor, FLEXIBLE, length - 1).check_fits([example])


def test_check_fits_tokenizes_only_prompts_that_may_be_too_long(tiny, monkeypatch):
    encoded = []
    monkeypatch.setattr(PromptEncoder, "_shortest_length", lambda self, example: encoded.append(example.id) or 1)
    long = make_example("long", turns=["word " * 200])
    PromptEncoder(tiny.processor, FLEXIBLE, 1000).check_fits([make_example(f"short {n}") for n in range(50)] + [long])
    assert encoded == ["long"]


def test_a_history_of_hundreds_of_turns_is_rendered_a_few_times(encoder, tiny, monkeypatch):
    example = make_example(turns=[f"I said it {n} times." for n in range(301)])
    shortened = replace(example, history=example.history[297:])
    limit = len(encoder.encode(shortened, [[]] * 4).prompt_ids)
    rendered = []
    text = PromptEncoder._text
    monkeypatch.setattr(PromptEncoder, "_text", lambda self, *args: rendered.append(len(args[0])) or text(self, *args))
    prompt = PromptEncoder(tiny.processor, FLEXIBLE, limit).encode(example, [[]] * 301)
    assert prompt.dropped_turns == 297
    assert len(rendered) <= 10  # the whole history of 301 turns, then nine bisections


def test_the_length_limit_counts_the_tokens_of_the_model_input(encoder, tiny):
    frames = [[face("red"), face("red", 168)]]
    length = len(encoder.encode(make_example(), frames).prompt_ids)
    assert len(PromptEncoder(tiny.processor, FLEXIBLE, length).encode(make_example(), frames).prompt_ids) == length
    with pytest.raises(DataError, match=r"a\.csv:1"):
        PromptEncoder(tiny.processor, FLEXIBLE, length - 1).encode(make_example(), frames)


def test_a_completion_ends_with_the_end_of_turn_token(encoder):
    ids = encoder.completion_ids("Hello.")
    assert ids[-1] == encoder.processor.tokenizer.eos_token_id
    assert encoder.processor.tokenizer.decode(ids[:-1]) == "Hello."


def test_prompts_are_padded_left_and_completions_right(encoder):
    short = encoder.encode(make_example(), [[]])
    long = encoder.encode(make_example(turns=LONG), [[], [], [], [], [face("red")]])
    completions = [torch.tensor([5, 6, 7]), torch.tensor([8])]
    inputs = collate([short, long], completions, pad_id=0)
    gap = len(long.prompt_ids) - len(short.prompt_ids)
    assert inputs.attention_mask[0].tolist() == [False] * gap + [True] * (len(short.prompt_ids) + 3)
    assert inputs.attention_mask[1].tolist() == [True] * (len(long.prompt_ids) + 1) + [False] * 2
    assert inputs.completion_mask.tolist() == [[True, True, True], [True, False, False]]
    assert inputs.input_ids[0, gap:-3].tolist() == short.prompt_ids.tolist()
    assert inputs.input_ids[:, -3:].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert int(inputs.token_types.sum()) == 16
    assert inputs.pixel_values.shape == (64, 1176)
