"""BERTScore equals the library's, has its name only with roberta-large, and accepts any text."""

import bert_score
import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

from fires_exp.config.scoring import EncoderConfig, SimilarityConfig
from fires_exp.errors import ScoreError
from fires_exp.scores.bertscore import BertScore
from fires_exp.scores.encoder import encoder_source

CPU = torch.device("cpu")
REFERENCES = ["How do you feel about it?", "I am sorry to hear that.", "I see.", "Tell me more about your mother."]
RESPONSES = ["How does that make you feel?", "I am sorry to hear that.", "A red bus.", "😀"]


def similarity(name="MiniLM-L6", source="minilm", path=None, layer=6):
    encoder = EncoderConfig(name=name, source=source, path=path, revision=None)
    return SimilarityConfig(encoder=encoder, layer=layer, batch_size=2)


@pytest.fixture(scope="module")
def minilm(cache):
    return BertScore(similarity(), cache, CPU, progress=False)


@pytest.fixture
def roberta(tmp_path):
    """A random RoBERTa with two layers and room for 20 tokens."""
    words = ByteLevelBPETokenizer()
    words.train_from_iterator(
        [" how sad are you"] * 20, vocab_size=300, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    )
    words.save_model(str(tmp_path))
    RobertaTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    RobertaModel(RobertaConfig(vocab_size=300, max_position_embeddings=22, **sizes)).save_pretrained(tmp_path)
    return tmp_path


def test_f1_equals_the_librarys_for_the_same_folder(minilm, cache):
    folder = encoder_source(similarity().encoder, cache)
    expected = bert_score.score(RESPONSES, REFERENCES, model_type=folder, num_layers=6, device="cpu")[2]
    assert minilm.f1(REFERENCES, RESPONSES) == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_copy_scores_one_and_a_closer_text_scores_more(minilm):
    close, copy, different, _ = minilm.f1(REFERENCES, RESPONSES)
    assert copy == pytest.approx(1.0, abs=1e-5)
    assert copy > close > different


def test_the_score_does_not_depend_on_the_batch(minilm):
    together = minilm.f1(REFERENCES, RESPONSES)
    apart = [minilm.f1([reference], [response])[0] for reference, response in zip(REFERENCES, RESPONSES, strict=True)]
    assert together == pytest.approx(apart, abs=1e-5)


def test_an_empty_text_scores_zero_and_changes_no_other_score(minilm):
    scores = minilm.f1(["Yes.", "Yes.", "", "Yes."], ["", " \n", "Yes.", "Yes."])
    assert scores == [0.0, 0.0, 0.0, pytest.approx(1.0, abs=1e-5)]
    assert minilm.f1([""], [""]) == [0.0]


def test_only_roberta_large_is_called_bertscore(minilm, roberta, cache):
    assert minilm.name == "MiniLM-L6 score F1 (not BERTScore)"
    assert "MiniLM-L6 layer 6, not rescaled" in minilm.version
    renamed = BertScore(similarity("roberta-large", "hub", str(roberta), layer=2), cache, CPU, progress=False)
    assert renamed.name == "roberta-large score F1 (not BERTScore)"


def test_a_byte_level_encoder_gets_a_space_before_the_first_word(roberta, cache):
    scorer = BertScore(similarity("r", "hub", str(roberta), layer=1), cache, CPU, progress=False)
    tokens = scorer._tokenizer
    assert tokens.convert_ids_to_tokens(tokens.encode("how sad")) == ["<s>", "Ġhow", "Ġsad", "</s>"]


def test_a_text_longer_than_the_encoder_is_truncated(roberta, cache):
    scorer = BertScore(similarity("r", "hub", str(roberta), layer=1), cache, CPU, progress=False)
    assert scorer.f1(["how sad " * 50], ["how sad " * 60]) == pytest.approx([1.0], abs=1e-5)


def test_a_missing_encoder_or_layer_is_one_line(cache, roberta):
    with pytest.raises(ScoreError, match=r"metrics\.similarity\.layer=3.*2"):
        BertScore(similarity("r", "hub", str(roberta), layer=3), cache, CPU, progress=False)
    with pytest.raises(ScoreError, match=r"roberta-large.*metrics=offline"):
        BertScore(similarity("roberta-large", "hub", "nobody/roberta-large", layer=17), cache, CPU, progress=False)
