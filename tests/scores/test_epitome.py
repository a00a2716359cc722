"""Scorers of support skills: levels do not depend on order or batch size; a changed or incomplete folder is refused."""

import json
import random
import shutil

import pytest
import torch

from fires_exp.config.scoring import EncoderConfig
from fires_exp.errors import BackboneError
from fires_exp.scores.encoder import load_encoder
from fires_exp.scores.epitome import scorer as scorer_module
from fires_exp.scores.epitome.levels import MECHANISMS, SkillLevels
from fires_exp.scores.epitome.model import Trunk, new_mechanism
from fires_exp.scores.epitome.scorer import EpitomeScorer, ScorerFacts, load_scorer, save_scorer, seal_scorer
from fires_exp.scores.epitome.texts import TextReader, lower_case

TINY = EncoderConfig(name="tiny", source="tiny", path=None, revision=None)
WORDS = "I am sorry you feel alone and lost , what happened to your work my friend ? It must be hard".split()
CPU = torch.device("cpu")


def untrained(cache, frozen_layers):
    """A scorer whose random weights give different levels to different texts."""
    tokenizer, encoder = load_encoder(TINY, cache)
    torch.manual_seed(1)
    mechanisms = [new_mechanism(encoder, frozen_layers, dropout=0.2, encoder_dropout=0.1) for _ in MECHANISMS]
    for mechanism in mechanisms:
        for linear in (mechanism.level[1], mechanism.level[-1]):
            torch.nn.init.normal_(linear.weight)
    facts = ScorerFacts(
        name="random", encoder="tiny", frozen_layers=frozen_layers, dropout=0.2, max_tokens=48, data="d", split="s", seed=0
    )
    return EpitomeScorer(facts, Trunk(encoder, frozen_layers), mechanisms, tokenizer, "v"), encoder, tokenizer


@pytest.fixture(params=[None, 0, 1, 2])
def random_scorer(request, cache):
    return untrained(cache, request.param)[0]


def some_pairs(count=60):
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=rng.randint(0, 60))) for _ in range(2 * count)]
    return list(zip(texts[:count], texts[count:], strict=True))


def test_order_and_batch_size_change_no_level_and_no_logit(random_scorer, monkeypatch):
    pairs = some_pairs()
    together = torch.stack(random_scorer.logits(pairs))
    monkeypatch.setattr(scorer_module, "BATCH_SIZE", 7)
    random_scorer._context_states.clear()
    backwards = torch.stack(random_scorer.logits(pairs[::-1])).flip(0)
    random_scorer._context_states.clear()
    alone = torch.stack([random_scorer.logits([pair])[0] for pair in pairs])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)
    torch.testing.assert_close(together, backwards, atol=1e-4, rtol=0)
    assert together.argmax(-1).tolist() == alone.argmax(-1).tolist() == backwards.argmax(-1).tolist()
    assert len({tuple(levels) for levels in together.argmax(-1).tolist()}) > 1


def test_frozen_layers_change_what_is_trained_and_not_what_is_computed(cache):
    logits = []
    for frozen_layers in (None, 0, 1, 2):
        torch.manual_seed(1)
        scorer, encoder, _ = untrained(cache, frozen_layers)
        heads = new_mechanism(encoder, 2, dropout=0.2, encoder_dropout=0.0)
        torch.manual_seed(3)
        for mechanism in scorer.mechanisms:
            for name, parameter in mechanism.named_parameters():
                if not name.startswith("upper."):
                    torch.nn.init.normal_(parameter)
        assert {name.split(".")[0] for name, _ in heads.named_parameters()} == {"attention", "level", "rationale"}
        logits.append(torch.stack(scorer.logits(some_pairs(8))))
    for other in logits[1:]:
        torch.testing.assert_close(other, logits[0], atol=2e-4, rtol=1e-4)


def test_split_layers_give_the_output_of_the_whole_encoder(cache):
    tokenizer, encoder = load_encoder(TINY, cache)
    batch = tokenizer(["I feel lost and alone", "ok"], padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = encoder(**batch).last_hidden_state
        mask = batch["attention_mask"].bool()
        states = Trunk(encoder, 1).seeker(batch["input_ids"], mask)
    torch.testing.assert_close(states[mask], expected[mask], atol=1e-5, rtol=1e-5)


def test_the_logits_depend_on_the_post(random_scorer):
    first, second = random_scorer.logits([("I feel alone", "what happened ?"), ("my work is hard", "what happened ?")])
    assert not torch.allclose(first, second, atol=1e-4)


def test_a_pair_is_scored_once(random_scorer, monkeypatch):
    batch_sizes = []
    logits = random_scorer.logits
    monkeypatch.setattr(random_scorer, "logits", lambda pairs: batch_sizes.append(len(pairs)) or logits(pairs))
    pairs = some_pairs(5)
    first = random_scorer.levels([*pairs, pairs[0]])
    again = random_scorer.levels(pairs)
    assert batch_sizes == [5, 0]
    assert first == [*again, again[0]]
    assert all(isinstance(levels, SkillLevels) for levels in first)


def test_caches_are_bounded(random_scorer, monkeypatch):
    monkeypatch.setattr(scorer_module, "MAX_CACHED_LEVELS", 3)
    monkeypatch.setattr(scorer_module, "MAX_CACHED_CONTEXTS", 2)
    random_scorer.levels(some_pairs(10))
    assert len(random_scorer._levels) == 3
    assert len(random_scorer._context_states) == 2


def test_no_pairs_give_no_levels(random_scorer):
    assert random_scorer.levels([]) == []


def test_texts_are_lower_cased_and_truncated_with_spans_of_the_original(cache):
    tokenizer, _ = load_encoder(TINY, cache)
    reader = TextReader(tokenizer, 8)
    upper, lower, long = reader(["I FEEL Lost", "i feel lost", "lost " * 50])
    assert upper.ids.tolist() == lower.ids.tolist()
    assert len(long.ids) == 8
    assert upper.spans[0] == upper.spans[-1] == (0, 0)
    assert upper.spans[1] == (0, 1)
    assert lower_case("İX ẞ") == "İx ß"


@pytest.fixture
def saved(cache, tmp_path):
    scorer, encoder, tokenizer = untrained(cache, 1)
    folder = tmp_path / "scorer"
    save_scorer(folder, scorer.facts, scorer.trunk, scorer.mechanisms, encoder, tokenizer)
    seal_scorer(folder)
    return folder, scorer


def test_a_saved_scorer_gives_the_same_logits(saved):
    folder, scorer = saved
    again = load_scorer(folder, CPU)
    pairs = some_pairs(10)
    torch.testing.assert_close(torch.stack(again.logits(pairs)), torch.stack(scorer.logits(pairs)), atol=0, rtol=0)
    assert again.name == "random"
    assert len(again.version) == 8


@pytest.mark.parametrize("name", ["trunk.safetensors", "explorations.safetensors", "encoder/tokenizer.json"])
def test_a_changed_a_truncated_and_a_missing_file_are_refused_by_name(saved, name):
    folder, _ = saved
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BackboneError, match=rf"{name} was changed"):
        load_scorer(folder, CPU)
    (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(BackboneError, match=rf"{name} was changed or truncated"):
        load_scorer(folder, CPU)
    (folder / name).unlink()
    with pytest.raises(BackboneError, match=rf"{name} is missing"):
        load_scorer(folder, CPU)


def change(folder, **facts):
    path = folder / "scorer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


def test_another_format_and_another_shape_are_refused_by_name(saved):
    folder, _ = saved
    change(folder, frozen_layers=2)
    with pytest.raises(BackboneError, match=r"trunk\.safetensors"):
        load_scorer(folder, CPU)
    change(folder, mood="good")
    with pytest.raises(BackboneError, match=r"scorer\.json.*mood"):
        load_scorer(folder, CPU)
    change(folder, format=2)
    with pytest.raises(BackboneError, match=r"scorer\.json.*format 2"):
        load_scorer(folder, CPU)


def test_a_folder_that_is_not_a_scorer_is_refused_with_the_remedy(saved, tmp_path):
    folder, _ = saved
    with pytest.raises(BackboneError, match=r"nowhere.*reward\.support_skill\.scorer="):
        load_scorer(tmp_path / "nowhere", CPU)
    (folder / "scorer.json").write_text("[1")
    with pytest.raises(BackboneError, match=r"scorer\.json.*reward\.support_skill\.scorer="):
        load_scorer(folder, CPU)


def test_a_moved_folder_gives_the_same_levels(saved, tmp_path):
    folder, scorer = saved
    shutil.move(folder, tmp_path / "elsewhere")
    assert load_scorer(tmp_path / "elsewhere", CPU).levels(some_pairs(3)) == scorer.levels(some_pairs(3))
