"""The native language model gives the outputs and gradients of the stock one."""

from dataclasses import replace

import pytest
import torch
from making import face, make_example
from torch import nn

from fires_exp.errors import BackboneError
from fires_exp.policy.adapters import add_adapter
from fires_exp.policy.backbone import build_policy
from fires_exp.policy.logprobs import completion_logprobs, group_logprobs
from fires_exp.policy.native.language_model import LanguageModel, rms_norm, rotate, swiglu
from fires_exp.prompts.collate import collate


@pytest.fixture
def prompt(encoder):
    return encoder.encode(make_example("first"), [[face("red"), face("blue", 168)]])


@pytest.fixture
def completions(encoder):
    return [encoder.completion_ids(text) for text in ("Hi.", "Tell me more about that, please.", "What happened?")]


def gradients(policy):
    return {name: parameter.grad.clone() for name, parameter in policy.named_parameters() if parameter.grad is not None}


def passes_gradcheck(function, *tensors):
    doubles = [tensor.double().requires_grad_() for tensor in tensors]
    return torch.autograd.gradcheck(function, doubles, eps=1e-5, atol=1e-4, rtol=1e-3)


def test_gradients_of_norm_rotation_and_swiglu_are_right():
    states, weight = torch.randn(3, 8), torch.rand(8) + 0.5
    # the norm's mean is float32 by contract, too coarse for finite differences
    ours, plain = states.clone().requires_grad_(), states.clone().requires_grad_()
    (rms_norm(ours, weight, 1e-6) ** 3).sum().backward()
    ((plain * torch.rsqrt(plain.pow(2).mean(-1, keepdim=True) + 1e-6) * weight) ** 3).sum().backward()
    torch.testing.assert_close(ours.grad, plain.grad, atol=1e-5, rtol=1e-4)
    angles = torch.rand(3, 1, 4, dtype=torch.float64)
    assert passes_gradcheck(lambda heads: rotate(heads, (angles.cos(), angles.sin())), torch.randn(3, 2, 8))
    assert passes_gradcheck(swiglu, torch.randn(3, 8), torch.randn(3, 8))


def test_recomputing_activations_changes_no_result(tiny, lora, prompt, completions):
    add_adapter(tiny, lora, seed=0)
    tiny.train()
    results = []
    for recompute in (False, True):
        tiny.zero_grad()
        scored = group_logprobs(tiny, prompt, completions, 0.7, recompute=recompute)
        scored.logprobs_BC.sum().backward()
        results.append((scored.logprobs_BC, gradients(tiny)))
    (stored, stored_gradients), (recomputed, recomputed_gradients) = results
    assert torch.equal(stored, recomputed)
    assert stored_gradients.keys() == recomputed_gradients.keys()
    for name, gradient in stored_gradients.items():
        torch.testing.assert_close(recomputed_gradients[name], gradient, atol=1e-7, rtol=1e-5)


def test_in_bfloat16_it_is_as_close_to_float32_as_the_stock_model(tiny_config, cache, lora, prompt, completions):
    logprobs = {}
    for dtype in ("float32", "bfloat16"):
        policy = build_policy(replace(tiny_config, dtype=dtype), cache, torch.device("cpu"))
        add_adapter(policy, lora, seed=0)
        with torch.no_grad():
            native = group_logprobs(policy, prompt, completions, 1.0, recompute=False).logprobs_BC
            inputs = collate([prompt] * 3, completions, pad_id=policy.pad_id)
            logprobs[dtype] = native, completion_logprobs(policy, inputs, 1.0).logprobs_BC
    exact = logprobs["float32"][0]
    native_error, stock_error = ((rounded - exact).abs().mean() for rounded in logprobs["bfloat16"])
    assert native_error < 1.5 * stock_error


def test_precomputed_image_embeddings_give_the_same_numbers(tiny, prompt, completions):
    with torch.no_grad():
        without = group_logprobs(tiny, prompt, completions, 1.0, recompute=False).logprobs_BC
        precomputed = group_logprobs(tiny, tiny.encode_images(prompt), completions, 1.0, recompute=False).logprobs_BC
    assert torch.equal(without, precomputed)


def test_adapter_dropout_applies_in_training_only(tiny, lora, prompt, completions):
    add_adapter(tiny, replace(lora, dropout=0.5), seed=0)
    with torch.no_grad():
        for name, parameter in tiny.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
        tiny.eval()
        evaluating = [group_logprobs(tiny, prompt, completions, 1.0, recompute=False).logprobs_BC for _ in range(2)]
        tiny.train()
        training = [group_logprobs(tiny, prompt, completions, 1.0, recompute=False).logprobs_BC for _ in range(2)]
    assert torch.equal(*evaluating)
    assert not torch.equal(*training)


def test_an_unsupported_backbone_is_refused_with_the_remedy(tiny, monkeypatch):
    monkeypatch.setattr(tiny.qwen.config.text_config, "hidden_act", "gelu")
    with pytest.raises(BackboneError, match=r"gelu.*grpo\.scoring=transformers"):
        LanguageModel(tiny)
    monkeypatch.undo()
    tiny.qwen.model.language_model.layers[0].mlp.up_proj = nn.Identity()
    with pytest.raises(BackboneError, match=r"Identity.*grpo\.scoring=transformers"):
        LanguageModel(tiny)
