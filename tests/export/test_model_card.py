"""What a model card says of licenses and keeps to itself."""

import pytest
from huggingface_hub import ModelCard

from fires_exp.export.model_card import ONLY_HERE, shareable, write_card

FACTS = {"started": "2026-01-01", "seed": 42, "commit": "abc", "config_sha256": "def", "versions": {"torch": "2"}}


@pytest.fixture
def card(tmp_path):
    """The card of a run whose tree is this one, changed."""

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
        return write_card(tmp_path, tmp_path, policy, tree, FACTS, "Reply.").read_text()

    return write


def test_what_is_free_all_through_is_under_that_license(card):
    data = ModelCard(card()).data
    assert (data.license, data.base_model) == ("apache-2.0", "Qwen/Qwen2.5-VL-7B-Instruct")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset": {"name": "mesc", "root": "/data/mesc"}}, "subtitles of the series In Treatment"),
        ({"backbone": {"name": "qwen2_5_vl_3b", "path": "Qwen/Qwen2.5-VL-3B-Instruct"}}, "Qwen Research License"),
        ({"backbone": {"name": "mine", "path": "/models/mine"}}, "Its license is not known here"),
        ({"epitome": {"data": "/data/epitome"}}, "Althoff academic license"),
        ({"teacher": {"name": "openai", "model": "gpt-4o"}}, "written by gpt-4o behind a service, whose terms"),
        ({"dataset": {"name": "jsonl", "root": "/x"}}, "Whoever exports says what its license is"),
    ],
)
def test_what_restricts_the_weights_is_said_and_takes_the_open_license_away(card, changes, said):
    text = card(**changes)
    data = ModelCard(text).data
    assert (data.license, data.license_name) == ("other", "research-only")
    assert said in text
    assert "/data" not in text
    assert "/models" not in text


def test_a_reward_that_the_policy_never_saw_restricts_nothing(card):
    text = card("sft", epitome={"data": "/data/epitome"})
    assert ModelCard(text).data.license == "apache-2.0"
    assert "Althoff" not in text


def test_a_run_without_a_table_says_so(card):
    assert "The run measured nothing of this policy." in card()


def test_the_shared_configuration_holds_no_path_and_keeps_the_rest():
    tree = {
        "backbone": {"path": "~/models/x"},
        "dataset": {"root": "data", "limit": {"train": 3}},
        "sft": {"lora": {"target_modules": r".*language_model\..*"}, "share": 0.5},
        "many": ["./here", "there"],
        "paths": {"cache": "/root"},
    }
    assert shareable(tree) == {
        "backbone": {"path": ONLY_HERE},
        "dataset": {"root": ONLY_HERE, "limit": {"train": 3}},
        "sft": {"lora": {"target_modules": r".*language_model\..*"}, "share": 0.5},
        "many": [ONLY_HERE, "there"],
    }
