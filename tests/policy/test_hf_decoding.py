"""The preallocated cache has the contents of the stock cache, and is not copied for every token."""

import pytest
import torch
from transformers import DynamicCache

from fires_exp.policy.hf_decoding import preallocated_cache


def states(batch, tokens, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 2, tokens, 4, generator=generator) for _ in range(2)]


def both_caches(max_new_tokens=3):
    return preallocated_cache(1, max_new_tokens), DynamicCache()


def assert_equal(ours, stock):
    assert ours.get_seq_length() == stock.get_seq_length()
    assert torch.equal(ours.layers[0].keys, stock.layers[0].keys)
    assert torch.equal(ours.layers[0].values, stock.layers[0].values)


@pytest.mark.parametrize("max_new_tokens", [1, 3, 50])
def test_the_contents_are_those_of_the_stock_cache(max_new_tokens):
    caches = both_caches(max_new_tokens)
    for cache in caches:
        cache.update(*states(2, 5, 0), 0)
        cache.batch_repeat_interleave(3)
        for step in range(4):
            cache.update(*states(6, 1, step), 0)
        cache.batch_select_indices(torch.tensor([0, 3, 5]))
        for step in range(4):
            keys, values = cache.update(*states(3, 1, 10 + step), 0)
        assert keys.shape == values.shape == (3, 2, 13, 4)
    assert_equal(*caches)


def test_several_tokens_at_once_may_exceed_the_preallocated_length():
    caches = both_caches(max_new_tokens=2)
    for cache in caches:
        cache.update(*states(1, 3, 0), 0)
        cache.update(*states(1, 2, 1), 0)
        cache.update(*states(1, 4, 2), 0)
    assert_equal(*caches)


def test_a_token_is_written_in_place():
    cache = preallocated_cache(1, 3)
    cache.update(*states(1, 5, 0), 0)
    addresses = {cache.update(*states(1, 1, step), 0)[0].data_ptr() for step in range(3)}
    assert len(addresses) == 1
