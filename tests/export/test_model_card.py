"""The model card: licenses, and paths that it must not contain."""

import pytest
from huggingface_hub import ModelCard

from fires_exp.export.load_run import TrainedModel
from fires_exp.export.model_card import HIDDEN_PATH, shareable, write_card

SFT, GRPO = ({"stage": name, "key": name, "folder": f"artifacts/{name}/{name}"} for name in ("sft", "grpo"))
RECORD = {
    "started": "2026-01-01",
    "seed": 42,
    "commit": "abc",
    "config_sha256": "def",
    "versions": {"torch": "2"},
    "stages": [{"stage": "thoughts"}, SFT, GRPO],
    "policies": {"zero_shot": [], "sft": [SFT], "grpo": [SFT, GRPO]},
}


@pytest.fixture
def card(tmp_path):
    """Write the card of a run with these changes to its configuration; gives its text."""

    def write(policy="grpo", **changes):
        tree = {
            "name": "fires",
            "backbone": {"name": "qwen2_5_vl_7b", "path": "Qwen/Qwen2.5-VL-7B-Instruct"},
            "dataset": {"name": "sample", "root": None},
            "aspects": {"plan": "flexible"},
            "teacher": {"name": "rules"},
            "reward": {"support_skill_weight": 0.1, "support_skill": {"scorer": None}},
            "recipe": {"stages": ["sft", "grpo"]},
        } | changes
        trained = TrainedModel(run_folder=tmp_path, policy=policy, resolved=tree, record=RECORD, adapters=())
        return write_card(tmp_path, trained, "Reply.").read_text()

    return write


def test_a_model_of_free_sources_has_their_license(card):
    data = ModelCard(card()).data
    assert (data.license, data.base_model) == ("apache-2.0", "Qwen/Qwen2.5-VL-7B-Instruct")


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"dataset": {"name": "mesc", "root": "/data/mesc"}}, "subtitles of the series In Treatment"),
        ({"backbone": {"name": "qwen2_5_vl_3b", "path": "Qwen/Qwen2.5-VL-3B-Instruct"}}, "Qwen Research License"),
        ({"backbone": {"name": "mine", "path": "/models/mine"}}, "Its license is not known here"),
        ({"epitome": {"data": "/data/epitome"}}, "Althoff academic license"),
        ({"teacher": {"name": "openai", "model": "gpt-4o"}}, "written by gpt-4o behind a service, whose terms"),
        ({"dataset": {"name": "jsonl", "root": "/x"}}, "Its license is to be stated by whoever exports the model"),
    ],
)
def test_a_restricted_source_is_named_and_the_open_license_omitted(card, changes, note):
    text = card(**changes)
    data = ModelCard(text).data
    assert (data.license, data.license_name) == ("other", "research-only")
    assert note in text
    assert "/data" not in text
    assert "/models" not in text


def test_a_scorer_that_the_policy_was_not_trained_with_restricts_nothing(card):
    text = card("sft", epitome={"data": "/data/epitome"})
    assert ModelCard(text).data.license == "apache-2.0"
    assert "Althoff" not in text


def test_a_run_without_a_table_has_no_results(card):
    assert "The run did not evaluate this policy." in card()


def test_the_shared_configuration_contains_no_path_and_keeps_the_rest():
    tree = {
        "backbone": {"path": "~/models/x"},
        "dataset": {"root": "data", "limit": {"train": 3}},
        "sft": {"lora": {"target_modules": r".*language_model\..*"}, "share": 0.5},
        "many": ["./here", "there"],
        "paths": {"cache": "/root"},
    }
    assert shareable(tree) == {
        "backbone": {"path": HIDDEN_PATH},
        "dataset": {"root": HIDDEN_PATH, "limit": {"train": 3}},
        "sft": {"lora": {"target_modules": r".*language_model\..*"}, "share": 0.5},
        "many": [HIDDEN_PATH, "there"],
    }
