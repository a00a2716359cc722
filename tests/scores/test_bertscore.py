"""BERTScore is the library's, under its name only where it is roberta-large's, and survives any text."""

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
    """A random encoder of roberta's kind, with two layers and 20 tokens of room."""
    words = ByteLevelBPETokenizer()
    words.train_from_iterator(
        [" how sad are you"] * 20, vocab_size=300, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    )
    words.save_model(str(tmp_path))
    RobertaTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    RobertaModel(RobertaConfig(vocab_size=300, max_position_embeddings=22, **sizes)).save_pretrained(tmp_path)
    return tmp_path


def test_f1_is_what_the_library_says_of_the_same_folder(minilm, cache):
    folder = encoder_source(similarity().encoder, cache)
    expected = bert_score.score(RESPONSES, REFERENCES, model_type=folder, num_layers=6, device="cpu")[2]
    assert minilm.f1(REFERENCES, RESPONSES) == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_copy_scores_one_and_what_is_nearer_scores_more(minilm):
    near, copy, far, _ = minilm.f1(REFERENCES, RESPONSES)
    assert copy == pytest.approx(1.0, abs=1e-5)
    assert copy > near > far


def test_the_batch_changes_nothing(minilm):
    together = minilm.f1(REFERENCES, RESPONSES)
    apart = [minilm.f1([reference], [response])[0] for reference, response in zip(REFERENCES, RESPONSES, strict=True)]
    assert together == pytest.approx(apart, abs=1e-5)


def test_an_empty_text_scores_zero_and_disturbs_no_other(minilm):
    scores = minilm.f1(["Yes.", "Yes.", "", "Yes."], ["", " \n", "Yes.", "Yes."])
    assert scores == [0.0, 0.0, 0.0, pytest.approx(1.0, abs=1e-5)]
    assert minilm.f1([""], [""]) == [0.0]


def test_only_roberta_large_is_called_bertscore(minilm, roberta, cache):
    assert minilm.name == "MiniLM-L6 score F1 (not BERTScore)"
    assert "MiniLM-L6 layer 6, not rescaled" in minilm.version
    pretender = BertScore(similarity("roberta-large", "hub", str(roberta), layer=2), cache, CPU, progress=False)
    assert pretender.name == "roberta-large score F1 (not BERTScore)"


def test_the_first_word_of_a_byte_level_encoder_is_read_as_one_in_the_middle(roberta, cache):
    scorer = BertScore(similarity("r", "hub", str(roberta), layer=1), cache, CPU, progress=False)
    tokens = scorer._tokenizer
    assert tokens.convert_ids_to_tokens(tokens.encode("how sad")) == ["<s>", "Ġhow", "Ġsad", "</s>"]


def test_a_text_longer_than_the_encoder_is_cut(roberta, cache):
    scorer = BertScore(similarity("r", "hub", str(roberta), layer=1), cache, CPU, progress=False)
    assert scorer.f1(["how sad " * 50], ["how sad " * 60]) == pytest.approx([1.0], abs=1e-5)


def test_an_encoder_or_a_layer_that_is_not_there_is_one_line(cache, roberta):
    with pytest.raises(ScoreError, match="layer=3: r has 2 layers"):
        BertScore(similarity("r", "hub", str(roberta), layer=3), cache, CPU, progress=False)
    with pytest.raises(ScoreError, match="which needs no hub: metrics=offline"):
        BertScore(similarity("roberta-large", "hub", "nobody/roberta-large", layer=17), cache, CPU, progress=False)
