"""Chunked log-probabilities equal a full log-softmax, with the same gradient."""

import pytest
import torch

from fires_exp.policy.native.chunked_logprobs import chunked_logprobs


@pytest.mark.parametrize("rows", [2, 1000])
def test_chunked_log_probabilities_are_those_of_a_full_log_softmax(monkeypatch, rows):
    """In chunks of two rows, and in one chunk."""
    monkeypatch.setattr("fires_exp.policy.native.chunked_logprobs.CPU_LOGITS", rows * 20)
    states, head = torch.randn(7, 6), torch.randn(20, 6)
    suppressed = torch.arange(20) % 5 == 0
    ids = torch.tensor([1, 2, 3, 4, 6, 19, 1])
    ours, plain = states.clone().requires_grad_(), states.clone().requires_grad_()
    logprobs, entropy = chunked_logprobs(ours, ids, head, suppressed, 0.7)
    full = torch.log_softmax((plain @ head.t() / 0.7).masked_fill(suppressed, float("-inf")), -1)
    torch.testing.assert_close(logprobs, full.gather(-1, ids[:, None])[:, 0])
    torch.testing.assert_close(entropy, -(full.exp() * full.masked_fill(suppressed, 0.0)).sum(-1))
    weights = torch.linspace(-1, 1, 7)
    (logprobs * weights).sum().backward()
    (full.gather(-1, ids[:, None])[:, 0] * weights).sum().backward()
    torch.testing.assert_close(ours.grad, plain.grad)
    assert not entropy.requires_grad
