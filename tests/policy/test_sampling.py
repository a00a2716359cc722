"""Sampling follows the model's distribution, with a random stream of its own for each completion."""

from dataclasses import replace

import pytest
import torch
from making import SAMPLING, face, make_example

from fires_exp.config.model import Engine
from fires_exp.policy.sampling import _SAMPLERS, draw_top_p, sample_completions, stream_seed


@pytest.fixture
def prompts(encoder):
    return [
        encoder.encode(make_example("first"), [[face("red")]]),
        encoder.encode(make_example("second", ["Hi.", "Hello, how are you?", "I do not know what to do."]), [[], [], []]),
    ]


def sample(policy, prompts, config=SAMPLING, generations=3, seed=0):
    seeds = [[stream_seed(seed, prompt.example.id, index) for index in range(generations)] for prompt in prompts]
    return sample_completions(policy, prompts, config, seeds)


def test_completions_do_not_depend_on_the_other_prompts_of_the_batch(tiny, prompts):
    together = sample(tiny, prompts)
    for prompt, group in zip(prompts, together, strict=True):
        (alone,) = sample(tiny, [prompt])
        assert [completion.ids.tolist() for completion in alone] == [completion.ids.tolist() for completion in group]


def test_completions_of_a_group_differ_and_follow_the_seed(tiny, prompts):
    texts = [[completion.text for completion in group] for group in sample(tiny, prompts)]
    assert len(set(texts[0])) == 3
    assert texts == [[completion.text for completion in group] for group in sample(tiny, prompts)]
    assert texts != [[completion.text for completion in group] for group in sample(tiny, prompts, seed=1)]


@pytest.mark.parametrize("engine", ["native", "transformers"])
def test_greedy_takes_the_most_probable_token(tiny, prompts, engine):
    greedy = replace(SAMPLING, temperature=0.0, engine=engine)
    (first, second), _ = sample(tiny, prompts, greedy, generations=2)
    assert first.ids.tolist() == second.ids.tolist()
    expected = tiny.qwen.generate(
        input_ids=prompts[0].prompt_ids[None],
        mm_token_type_ids=prompts[0].token_types[None],
        pixel_values=prompts[0].pixel_values,
        image_grid_thw=prompts[0].image_grid_thw,
        max_new_tokens=10,
        do_sample=False,
        suppress_tokens=tiny.suppressed_V.nonzero()[:, 0].tolist(),
    )[0, len(prompts[0].prompt_ids) :]
    assert first.ids.tolist() == expected.tolist()


def test_a_completion_ends_at_the_limit_with_its_finish_reason(tiny, prompts):
    (completion,), _ = sample(tiny, prompts, replace(SAMPLING, max_new_tokens=2), generations=1)
    assert len(completion.ids) <= 2
    assert completion.finish_reason == ("stop" if completion.ids[-1] == tiny.eos_id else "length")


@pytest.mark.parametrize("engine", ["native", "transformers"])
def test_finished_rows_leave_the_batch_and_the_others_are_unchanged(tiny, prompts, engine):
    """All but eight tokens are suppressed, so that one in eight ends the turn and rows end at different steps."""
    tiny.suppressed_V[:] = True
    tiny.suppressed_V[[tiny.eos_id, *range(100, 107)]] = False
    config = replace(SAMPLING, max_new_tokens=24, engine=engine)
    groups = sample(tiny, prompts, config, generations=8)
    lengths = {len(completion.ids) for group in groups for completion in group}
    assert len(lengths) > 5
    for prompt, group in zip(prompts, groups, strict=True):
        for index, completion in enumerate(group):
            seeds = [[stream_seed(0, prompt.example.id, index)]]
            ((alone,),) = sample_completions(tiny, [prompt], config, seeds)
            assert alone.ids.tolist() == completion.ids.tolist()
            assert (completion.ids[:-1] != tiny.eos_id).all()


def test_every_engine_of_the_configuration_samples():
    assert set(_SAMPLERS) == set(Engine)


def test_special_tokens_are_never_sampled(tiny, prompts):
    config = replace(SAMPLING, temperature=50.0, max_new_tokens=40)
    for group in sample(tiny, prompts, config, generations=8):
        for completion in group:
            assert not tiny.suppressed_V[completion.ids].any()
    tokenizer = tiny.processor.tokenizer
    assert tiny.suppressed_V[tokenizer.convert_tokens_to_ids("<|image_pad|>")]
    assert tiny.suppressed_V[tokenizer.convert_tokens_to_ids("<|im_start|>")]
    assert not tiny.suppressed_V[tokenizer.eos_token_id]


def test_top_p_keeps_the_smallest_set_that_reaches_it():
    logprobs = torch.tensor([[0.2, 0.5, 0.3]]).log()
    # ordered 0.5, 0.3, 0.2; top-p 0.6 keeps the first two, renormalized to 0.625 and 0.375
    drawn = [int(draw_top_p(logprobs, 0.6, torch.tensor([uniform]))) for uniform in (0.0, 0.62, 0.63, 0.999)]
    assert drawn == [1, 1, 2, 2]
    assert int(draw_top_p(logprobs, 0.01, torch.tensor([0.999]))) == 1


def test_without_top_p_tokens_are_ordered_by_id():
    logprobs = torch.tensor([[0.2, 0.5, 0.0, 0.3]]).log()
    drawn = [int(draw_top_p(logprobs, 1.0, torch.tensor([uniform]))) for uniform in (0.0, 0.19, 0.21, 0.69, 0.71, 0.9999999)]
    assert drawn == [0, 0, 1, 1, 3, 3]


def test_draws_follow_the_distribution():
    probabilities = torch.tensor([0.6, 0.3, 0.1])
    uniforms = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    drawn = draw_top_p(probabilities.log().expand(20_000, -1), 1.0, uniforms)
    shares = torch.bincount(drawn, minlength=3) / 20_000
    torch.testing.assert_close(shares, probabilities, atol=0.01, rtol=0)
