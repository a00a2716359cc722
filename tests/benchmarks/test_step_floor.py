"""The step benchmark's floor, on numbers small enough for a pencil, and against torch's own count of operations."""

from types import SimpleNamespace

import pytest
import torch
from making import face, make_example
from step_floor import Rates, StepWork, floor_seconds, step_work, vision_flops
from torch.utils.flop_counter import FlopCounterMode

TEXT = SimpleNamespace(
    hidden_size=4, intermediate_size=6, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, vocab_size=10
)
VISION = SimpleNamespace(
    depth=3, hidden_size=2, intermediate_size=3, out_hidden_size=4, fullatt_block_indexes=[2], patch_size=1, in_channels=3,
    temporal_patch_size=2, spatial_merge_size=2, window_size=2,
)  # fmt: skip


def work_of(prompt_tokens=(3,), generations=2, new_tokens=3, pictures=()):
    return step_work(
        SimpleNamespace(text_config=TEXT, vision_config=VISION),
        prompt_tokens=prompt_tokens,
        image_grids=pictures,
        generations=generations,
        new_tokens=new_tokens,
        lora_rank=1,
        element_bytes=4,
    )


def test_one_layer_by_hand():
    """A layer's products hold 4·4 + 4·2 + 4·2 + 4·4 + 3·4·6 = 120 weights, the head 40; 2 of 3 new tokens are read.

    The prompt: 2·120·3 = 720, 6 pairs of tokens at 4·4 = 96, one row of logits 80.
    The completions, 2 of them: 2·120·4 = 960, each 2·3 + 3 = 9 pairs, so 288, and 4 rows of logits, 320.
    """
    work = work_of()
    assert work.prefill_flops == 720 + 96 + 80
    assert work.decode_flops == 960 + 288 + 320
    assert work.reference_flops == work.prefill_flops + work.decode_flops == 2464
    # LoRA of rank 1 has (4+4) + (4+2) + (4+2) + (4+4) + (4+6) + (4+6) + (6+4) = 58 weights, over 3 + 4 tokens
    assert work.policy_forward_flops == 2464 + 2 * 58 * 7
    # the gradient of a product's input costs as much as the product; attention has two such products, LoRA two gradients
    assert work.policy_backward_flops == 2464 + (96 + 288) + 2 * 2 * 58 * 7
    assert work.vision_flops == 0
    # two decode steps read 160 weights; keys and values of 2 numbers each: 2 steps x 3 prompt tokens once, 2 x (1 + 2) own
    assert work.decode_bytes == 4 * (160 * 2 + 2 * 2 * (6 + 6))


def test_a_prompt_is_counted_once_for_any_g_and_weights_are_read_once_for_any_prompts():
    few, many = work_of(generations=2), work_of(generations=4)
    assert many.prefill_flops == few.prefill_flops
    assert many.decode_flops == 2 * few.decode_flops
    single, double = work_of(prompt_tokens=(3,)), work_of(prompt_tokens=(3, 3))
    assert double.prefill_flops == 2 * single.prefill_flops
    weights = 4 * 160 * 2
    assert double.decode_bytes - weights == 2 * (single.decode_bytes - weights)


def test_an_image_by_hand():
    """2 x 4 patches in windows of 2 x 2, so 2 windows of 4: 32 pairs in two blocks, 64 in the one with full attention.

    Patches: 8 of 6 numbers to 2. A block: 4·4 + 3·2·3 = 34 weights. The merger: 2 x 8 numbers to 8 to 4.
    """
    embedding, blocks = 2 * 8 * 6 * 2, 2 * 8 * 3 * 34
    attention = 4 * 2 * (64 + 2 * 32)
    merger = 2 * 2 * (8 * 8 + 8 * 4)
    assert vision_flops(VISION, (1, 2, 4)) == embedding + blocks + attention + merger
    # one row more is a window of its own: heights 2 and 1, so (4 + 1)·(4 + 4) = 40 pairs
    assert vision_flops(VISION, (1, 3, 4)) - vision_flops(VISION, (1, 2, 4)) == pytest.approx(
        (embedding + blocks + merger) / 2 + 4 * 2 * ((144 - 64) + 2 * (40 - 32))
    )
    assert work_of(pictures=[(1, 2, 4)] * 3).vision_flops == 3 * vision_flops(VISION, (1, 2, 4))


def test_forward_passes_of_the_tiny_model_cost_what_torch_counts(tiny, encoder):
    """Torch counts all pairs of a causal square, and windows as they are, so prompt and picture are counted apart."""
    tiny.qwen.set_attn_implementation("eager")
    prompt = encoder.encode(make_example(), [[face("red")]])
    config = tiny.qwen.config
    length = len(prompt.prompt_ids)
    work = step_work(config, prompt_tokens=[length], image_grids=[], generations=1, new_tokens=1, lora_rank=1, element_bytes=4)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        tiny.qwen.model.language_model(inputs_embeds=torch.zeros(1, length, config.text_config.hidden_size))
    pair = 4 * config.text_config.hidden_size * config.text_config.num_hidden_layers
    head = 2 * config.text_config.hidden_size * config.text_config.vocab_size
    above_the_diagonal = pair * (length * length - length * (length + 1) // 2)
    rotation = counter.get_total_flops() - (work.prefill_flops - head + above_the_diagonal)
    assert 0 <= rotation <= 1e-3 * work.prefill_flops
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        tiny.qwen.model.visual(prompt.pixel_values, grid_thw=prompt.image_grid_thw)
    assert counter.get_total_flops() == pytest.approx(
        vision_flops(config.vision_config, tuple(prompt.image_grid_thw[0].tolist())), rel=1e-3
    )


def test_decoding_takes_the_longer_of_its_bytes_and_its_operations():
    work = StepWork(
        vision_flops=1.0, prefill_flops=2.0, decode_flops=3.0, decode_bytes=8.0, reference_flops=4.0, policy_forward_flops=5.0,
        policy_backward_flops=6.0,
    )  # fmt: skip
    slow_memory = floor_seconds(work, Rates(flops_per_second=1.0, bytes_per_second=1.0))
    assert slow_memory == {"sampling": 1 + 2 + 8, "scoring": 9, "backward": 6, "whole": 26}
    fast_memory = floor_seconds(work, Rates(flops_per_second=1.0, bytes_per_second=8.0))
    assert fast_memory["sampling"] == 1 + 2 + 3
