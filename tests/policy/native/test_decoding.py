"""Native decoding gives the logits of the stock model, whichever rows remain, and samples from its distribution."""

from dataclasses import replace

import pytest
import torch
from making import SAMPLING, face, make_example

from fires_exp.policy.adapters import add_adapter
from fires_exp.policy.backbone import build_policy
from fires_exp.policy.hf_decoding import HfDecoding
from fires_exp.policy.native import small_batch_matmul
from fires_exp.policy.native.decoding import NativeDecoding
from fires_exp.policy.sampling import sample_completions, stream_seed


@pytest.fixture
def prompts(encoder):
    return [
        encoder.encode(make_example("first"), [[face("red")]]),
        encoder.encode(make_example("second", ["Hi.", "Hello, how are you?", "I do not know what to do."]), [[], [], []]),
        encoder.encode(make_example("third", ["I can not sleep."]), [[]]),
    ]


def trained(policy, lora):
    """The policy with an adapter that changes its outputs."""
    add_adapter(policy, lora, seed=0)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))) * 0.1)
    return policy


def logits_of_steps(engine, policy, prompts):
    """Logits of every step: all six rows, then two rows of the second prompt and one of the third, then the third's alone."""
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode(), policy.evaluating():
        decoding = engine(policy, prompts, 2, 12)
        steps = [decoding.first_logits()]
        for selected in (None, None, [2, 3, 5], None, [2], None):
            if selected is not None:
                decoding.select(torch.tensor(selected))
            rows = len(steps[-1]) if selected is None else len(selected)
            steps.append(decoding.next_logits(torch.randint(100, 900, (rows,), generator=generator)))
    return [logits.float() for logits in steps]


@pytest.mark.parametrize("products", ["packed", "columns", "plain"])
def test_logits_are_those_of_the_stock_model_whichever_rows_remain(tiny, lora, prompts, monkeypatch, products):
    if products == "columns":
        monkeypatch.setattr(small_batch_matmul, "can_pack", lambda dtype: False)
    elif products == "plain":
        monkeypatch.setattr(
            "fires_exp.policy.native.decoding.matmul", lambda weights, rows: small_batch_matmul.StockMatmul(weights)
        )
    policy = trained(tiny, lora)
    ours, stock = logits_of_steps(NativeDecoding, policy, prompts), logits_of_steps(HfDecoding, policy, prompts)
    assert [len(logits) for logits in ours] == [6, 6, 6, 3, 3, 1, 1]
    for logits, stock_logits in zip(ours, stock, strict=True):
        torch.testing.assert_close(logits, stock_logits, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("products", ["packed", "columns"])
def test_in_bfloat16_they_differ_by_rounding(tiny_config, cache, lora, prompts, monkeypatch, products):
    if products == "columns":
        monkeypatch.setattr(small_batch_matmul, "can_pack", lambda dtype: False)
    policy = trained(build_policy(replace(tiny_config, dtype="bfloat16"), cache, torch.device("cpu")), lora)
    ours, stock = logits_of_steps(NativeDecoding, policy, prompts), logits_of_steps(HfDecoding, policy, prompts)
    for logits, stock_logits in zip(ours, stock, strict=True):
        assert float((logits - stock_logits).abs().mean()) < 0.02 * float(stock_logits.std())


def test_the_same_seeds_give_the_same_completions_as_the_stock_model(tiny, lora, prompts):
    policy = trained(tiny, lora)
    policy.suppressed_V[:] = True
    policy.suppressed_V[[policy.eos_id, *range(100, 120)]] = False  # some completions end early
    seeds = [[stream_seed(prompt.example.id, index) for index in range(5)] for prompt in prompts]
    config = replace(SAMPLING, max_new_tokens=30)
    native = sample_completions(policy, prompts, config, seeds)
    stock = sample_completions(policy, prompts, replace(config, engine="transformers"), seeds)
    for ours, theirs in zip(native, stock, strict=True):
        for completion, stock_completion in zip(ours, theirs, strict=True):
            assert completion.ids.tolist() == stock_completion.ids.tolist()
            torch.testing.assert_close(completion.logprobs, stock_completion.logprobs, atol=1e-4, rtol=0)
    assert len({len(completion.ids) for group in native for completion in group}) > 3


@pytest.mark.parametrize("engine", ["native", "transformers"])
def test_second_tokens_follow_the_distribution_of_the_model(tiny, prompts, engine):
    """Chi-square of 4,000 second tokens against the sum over all first tokens of p(first) p(second | first)."""
    prompt, draws = prompts[2], 4_000
    config = replace(SAMPLING, temperature=0.8, max_new_tokens=2, engine=engine)
    ids = prompt.prompt_ids
    with torch.no_grad():
        continuations = torch.cat([ids.expand(1024, -1), torch.arange(1024)[:, None]], dim=1)
        logits = tiny.qwen(input_ids=continuations).logits[:, -2:].masked_fill(tiny.suppressed_V, float("-inf"))
    first, second = torch.softmax(logits.double() / 0.8, dim=-1).unbind(1)
    first, second = first[0].clone(), second.clone()
    continues_V = torch.arange(1024) != tiny.eos_id
    expected = (first[continues_V, None] * second[continues_V]).sum(0) * draws
    (group,) = sample_completions(tiny, [prompt], config, [list(range(draws))])
    drawn = torch.tensor([int(completion.ids[1]) for completion in group if len(completion.ids) == 2])
    observed = torch.bincount(drawn, minlength=1024).double()
    # tokens ordered by id, forty per bin
    expected_bins = torch.stack([part.sum() for part in expected.split(40)])
    observed_bins = torch.stack([part.sum() for part in observed.split(40)])
    chi_square = float(((observed_bins - expected_bins) ** 2 / expected_bins.clamp_min(1e-9))[expected_bins > 5].sum())
    degrees_of_freedom = int((expected_bins > 5).sum()) - 1
    assert degrees_of_freedom >= 15
    assert chi_square < degrees_of_freedom + 4 * (2 * degrees_of_freedom) ** 0.5
