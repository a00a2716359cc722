"""Sequence-to-sequence models: encoder inputs, targets, log-probabilities, generation."""

import pytest
import torch
from transformers import AutoConfig, BlenderbotSmallConfig, BlenderbotSmallForConditionalGeneration

from fires_exp.config.baselines import Seq2SeqConfig
from fires_exp.config.model import SamplingConfig
from fires_exp.errors import BackboneError
from fires_exp.policy.seq2seq import build_seq2seq, check_seq2seq, load_seq2seq

CPU = torch.device("cpu")
GREEDY = SamplingConfig(temperature=0.0, top_p=1.0, max_new_tokens=30, engine="transformers")
MARKERS = ("[strategy]", "[response]")


def settings(**changes):
    tiny = {"name": "tiny", "source": "tiny", "path": None, "revision": None, "max_source_tokens": 40, "max_target_tokens": 30}
    return Seq2SeqConfig(**{**tiny, **changes})


@pytest.fixture
def seq2seq(cache):
    return build_seq2seq(settings(), cache, MARKERS, CPU, seed=0)


def test_each_line_ends_with_the_end_token_and_the_beginning_is_truncated(seq2seq):
    eos = seq2seq.tokenizer.eos_token_id
    short = seq2seq.encoder_input(["Hello there.", "Hi."])
    assert short.ids.tolist().count(eos) == 2
    assert short.ids[-1] == eos
    assert not short.truncated
    long = seq2seq.encoder_input(["Hello there."] * 40 + ["Hi."])
    assert long.truncated
    assert len(long.ids) == 40
    assert seq2seq.tokenizer.decode(long.ids).endswith("</s>Hi.</s>")


def test_a_marker_is_one_token_and_a_target_is_closed_unless_it_is_truncated(seq2seq):
    ids = seq2seq.target_ids("[strategy] approval [response] Yes.")
    assert [seq2seq.tokenizer.convert_tokens_to_ids(marker) in ids for marker in MARKERS] == [True, True]
    assert ids[-1] == seq2seq.tokenizer.eos_token_id
    assert len(seq2seq.target_ids("word " * 99)) == 30


def test_the_log_probability_of_a_batch_is_the_sum_of_its_pairs_whatever_the_padding(seq2seq):
    seq2seq.eval()
    inputs = [seq2seq.encoder_input(["One."]), seq2seq.encoder_input(["One.", "Two, and a good deal more."])]
    targets = [seq2seq.target_ids("Yes, that is so."), seq2seq.target_ids("No.")]
    with torch.no_grad():
        alone = [float(seq2seq.logprob_sum([item], [target])) for item, target in zip(inputs, targets, strict=True)]
        both = float(seq2seq.logprob_sum(inputs, targets))
        # by the chain rule from the decoder itself, which begins with its start token
        start = torch.tensor([[seq2seq.model.config.decoder_start_token_id]])
        decoder_ids = torch.cat([start, targets[0][None, :-1]], dim=1)
        logits = seq2seq.model(input_ids=inputs[0].ids[None], decoder_input_ids=decoder_ids).logits.log_softmax(-1)
    assert both == pytest.approx(sum(alone), rel=1e-5)
    assert alone[0] == pytest.approx(float(logits[0].gather(-1, targets[0][:, None]).sum()), rel=1e-5)


def test_learned_targets_are_generated_markers_included_also_after_saving(seq2seq, tmp_path):
    texts = ["[strategy] approval [response] Well done.", "[strategy] open question [response] What then?"]
    inputs = [seq2seq.encoder_input(["I did it."]), seq2seq.encoder_input(["It is over."])]
    optimizer = torch.optim.AdamW(seq2seq.parameters(), lr=5e-3)
    seq2seq.eval()  # dropout would only take longer
    for _ in range(80):
        (-seq2seq.logprob_sum(inputs, [seq2seq.target_ids(text) for text in texts])).backward()
        optimizer.step()
        optimizer.zero_grad()
    generated = seq2seq.generate(inputs, GREEDY, seed=0)
    assert [(text.replace(" ", ""), reason) for text, reason in generated] == [(text.replace(" ", ""), "stop") for text in texts]
    seq2seq.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    again = load_seq2seq(tmp_path, settings(), CPU)
    assert again.generate(inputs, GREEDY, seed=0) == generated
    assert again.generate(inputs[::-1], GREEDY, seed=0) == generated[::-1]


def test_a_text_that_does_not_end_has_the_finish_reason_length(seq2seq):
    limit = SamplingConfig(temperature=1.0, top_p=0.9, max_new_tokens=2, engine="transformers")
    inputs = [seq2seq.encoder_input(["I did it."])] * 3
    torch.manual_seed(7)
    generated = seq2seq.generate(inputs, limit, seed=1)
    after = torch.rand(1)
    assert {reason for _, reason in generated} == {"length"}
    assert generated == seq2seq.generate(inputs, limit, seed=1)
    assert generated != seq2seq.generate(inputs, limit, seed=2)
    torch.manual_seed(7)
    assert torch.equal(after, torch.rand(1))  # the caller's random state is unchanged


def test_blenderbot_small_loads_from_a_folder(seq2seq, cache, tmp_path):
    tokenizer = seq2seq.tokenizer
    config = BlenderbotSmallConfig(
        vocab_size=len(tokenizer), d_model=16, max_position_embeddings=64, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16,
        bos_token_id=1, eos_token_id=2, pad_token_id=0, decoder_start_token_id=1,
    )  # fmt: skip
    BlenderbotSmallForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    small = build_seq2seq(settings(source="hub", path=str(tmp_path)), cache, ("[new]",), CPU, seed=0)
    assert len(small.target_ids("[new]")) == 2
    assert small.model.get_input_embeddings().num_embeddings == len(tokenizer) + 1
    assert len(small.generate([small.encoder_input(["Hi."])], GREEDY, seed=0)) == 1


def test_too_many_tokens_an_empty_folder_and_an_unreachable_hub_are_one_line_each(cache, tmp_path, tiny_config):
    with pytest.raises(BackboneError, match=r"seq2seq\.max_source_tokens=129.*128"):
        check_seq2seq(settings(max_source_tokens=129), cache)
    with pytest.raises(BackboneError, match=rf"seq2seq\.path={tmp_path}"):
        check_seq2seq(settings(source="hub", path=str(tmp_path)), cache)
    with pytest.raises(BackboneError, match=r"can't be loaded \(HF_HUB_OFFLINE is set\).*trained_baseline\.model=backbone"):
        check_seq2seq(settings(source="hub", path="nobody/nothing"), cache)
    check_seq2seq(settings(), cache)


def test_a_decoder_only_model_is_refused(cache):
    (folder,) = (cache / "backbones").glob("tiny-????????-v?")
    assert AutoConfig.from_pretrained(folder).model_type == "qwen2_5_vl"
    with pytest.raises(BackboneError, match=r"qwen2_5_vl.*seq2seq\.path"):
        check_seq2seq(settings(source="hub", path=str(folder)), cache)
