"""Log-probabilities of a completion depend on the prompt, its frames and the completion, and on nothing else."""

from dataclasses import replace

import pytest
import torch
from making import SAMPLING, face, make_example

from fires_exp.policy.adapters import add_adapter
from fires_exp.policy.logprobs import completion_logprobs, group_logprobs
from fires_exp.policy.sampling import sample_completions, stream_seed
from fires_exp.prompts.collate import collate


@pytest.fixture
def prompts(encoder):
    long = make_example("long", ["I lost my job.", "I am sorry. Since when?", "A week, and nobody knows yet."])
    return [
        encoder.encode(make_example("short"), [[]]),
        encoder.encode(make_example("seen"), [[face("red"), face("blue", 168)]]),
        encoder.encode(long, [[], [], [face("green")]]),
    ]


@pytest.fixture
def completions(encoder):
    return [
        encoder.completion_ids(text)
        for text in ("Hi.", "<think>\nEmotion: sad\n</think>\n<response>Oh no.</response>", "Tell me more.")
    ]


def logprobs_of(policy, prompts, completions):
    inputs = collate(prompts, completions, pad_id=policy.pad_id)
    scored = completion_logprobs(policy, inputs, temperature=1.0).logprobs_BC
    return [row[: len(ids)] for row, ids in zip(scored, completions, strict=True)]


def test_padding_image_count_and_batch_composition_change_nothing(tiny, prompts, completions):
    together = logprobs_of(tiny, prompts, completions)
    for index in range(3):
        (alone,) = logprobs_of(tiny, [prompts[index]], [completions[index]])
        torch.testing.assert_close(together[index], alone, atol=1e-5, rtol=0)
    backwards = logprobs_of(tiny, prompts[::-1], completions[::-1])[::-1]
    for forward, backward in zip(together, backwards, strict=True):
        torch.testing.assert_close(forward, backward, atol=1e-5, rtol=0)


def test_log_probabilities_are_those_of_the_plain_model_run_on_one_sequence(tiny, prompts, completions):
    prompt, completion = prompts[2], completions[2]
    ids = torch.cat([prompt.prompt_ids, completion])[None]
    types = torch.cat([prompt.token_types, torch.zeros_like(completion)])[None]
    with torch.no_grad():
        logits = tiny.qwen(
            input_ids=ids,
            mm_token_type_ids=types,
            pixel_values=prompt.pixel_values,
            image_grid_thw=prompt.image_grid_thw,
        ).logits[0, len(prompt.prompt_ids) - 1 : -1]
    expected = torch.log_softmax(logits.masked_fill(tiny.suppressed_V, float("-inf")), -1).gather(-1, completion[:, None])[:, 0]
    torch.testing.assert_close(logprobs_of(tiny, [prompt], [completion])[0], expected, atol=1e-5, rtol=0)


def test_sampling_and_scoring_give_the_same_log_probabilities(tiny, prompts):
    seeds = [[stream_seed(prompt.example.id, index) for index in range(4)] for prompt in prompts]
    groups = sample_completions(tiny, prompts, SAMPLING, seeds)
    rows = [(prompt, completion) for prompt, group in zip(prompts, groups, strict=True) for completion in group]
    inputs = collate([prompt for prompt, _ in rows], [completion.ids for _, completion in rows], pad_id=tiny.pad_id)
    scored = completion_logprobs(tiny, inputs, SAMPLING.temperature).logprobs_BC
    for row, (_, completion) in zip(scored, rows, strict=True):
        torch.testing.assert_close(row[: len(completion.ids)], completion.logprobs, atol=1e-4, rtol=0)


def test_entropy_of_a_known_distribution(tiny, prompts, completions):
    inputs = collate(prompts, completions, pad_id=tiny.pad_id)
    scored = completion_logprobs(tiny, inputs, temperature=1e6)
    allowed = int((~tiny.suppressed_V).sum())
    mask = inputs.completion_mask
    torch.testing.assert_close(scored.entropy_BC[mask], torch.full((int(mask.sum()),), allowed).float().log(), atol=1e-3, rtol=0)
    assert not scored.entropy_BC[~mask].any()


def test_gradients_reach_the_adapter_and_nothing_else(tiny, lora, prompts, completions):
    add_adapter(tiny, lora, seed=0)
    inputs = collate(prompts, completions, pad_id=tiny.pad_id)
    completion_logprobs(tiny, inputs, 1.0).logprobs_BC.sum().backward()
    names = {name for name, parameter in tiny.named_parameters() if parameter.grad is not None}
    assert names
    assert all("lora_" in name for name in names)


def test_a_shared_prompt_gives_the_log_probabilities_and_gradients_of_separate_sequences(tiny, lora, encoder, prompts):
    add_adapter(tiny, replace(lora, train_vision=True), seed=0)
    with torch.no_grad():
        for name, parameter in tiny.named_parameters():
            if "lora_B" in name:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))) * 0.1)
    completions = [encoder.completion_ids(text) for text in ("Hi.", "Tell me more about that, please.", "What happened?")]
    completions.append(completions[0][:1])
    weights = torch.linspace(-1, 1, 4)[:, None]
    for prompt in prompts:
        results = []
        for share_prompt in (True, False):
            tiny.zero_grad()
            if share_prompt:
                scored = group_logprobs(tiny, prompt, completions, 0.7, recompute=False)
            else:
                scored = completion_logprobs(tiny, collate([prompt] * 4, completions, pad_id=tiny.pad_id), 0.7)
            (scored.logprobs_BC * weights).sum().backward()
            gradients = {
                name: parameter.grad.clone() for name, parameter in tiny.named_parameters() if parameter.grad is not None
            }
            results.append((scored, gradients))
        (shared, shared_gradients), (separate, separate_gradients) = results
        torch.testing.assert_close(shared.logprobs_BC, separate.logprobs_BC, atol=1e-5, rtol=0)
        torch.testing.assert_close(shared.entropy_BC, separate.entropy_BC, atol=1e-5, rtol=0)
        for name, gradient in shared_gradients.items():
            torch.testing.assert_close(gradient, separate_gradients[name], atol=2e-5, rtol=1e-3)


def test_completions_of_one_token_are_scored_too(tiny, prompts, encoder):
    completion = [encoder.completion_ids("Hi.")[:1]]
    shared = group_logprobs(tiny, prompts[1], completion, 1.0, recompute=False).logprobs_BC
    torch.testing.assert_close(shared[0], logprobs_of(tiny, [prompts[1]], completion)[0], atol=1e-5, rtol=0)
