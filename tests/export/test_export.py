"""`fires-exp export`: a folder that transformers alone loads, and one adapter that is equivalent to the two of the run."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import torch
from huggingface_hub import ModelCard
from making import FLEXIBLE, face, make_example
from peft import PeftModel
from safetensors.torch import load_file
from trained_run import composed, composed_command, run_small

from fires_exp.cli.export import main
from fires_exp.errors import ConfigError, StageError
from fires_exp.export.load_run import model_config, read_trained
from fires_exp.policy.adapters import merge_adapter
from fires_exp.policy.backbone import build_policy
from fires_exp.policy.sampling import sample_completions
from fires_exp.prompts.collate import collate
from fires_exp.prompts.processor import PromptEncoder

ALONE = """
import sys, torch
from transformers import AutoImageProcessor, AutoTokenizer, Qwen2_5_VLForConditionalGeneration

folder = sys.argv[1]
model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype="auto").eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
prompt = torch.load(sys.argv[2], weights_only=True)
messages = prompt.pop("messages")
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
pictures = AutoImageProcessor.from_pretrained(folder)
with torch.no_grad():
    seen = model(**prompt).logits
    answer = model.generate(**inputs)[0, inputs["input_ids"].shape[1]:]
torch.save({"ids": inputs["input_ids"], "logits": seen, "answer": answer, "merge": pictures.merge_size}, sys.argv[3])
assert "fires_exp" not in sys.modules
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory, cache):
    """A folder with a finished run in `run`, its artifacts in `artifacts` and its model in `model`."""
    folder = tmp_path_factory.mktemp("export")
    run_small(folder, cache)
    assert export(folder, cache, policy="", output="model") == 0
    return folder


def export(folder, cache, *, policy, output):
    """Export a policy of `folder/run` to `folder/output`; the exit code."""
    paths = [f"paths.artifacts={folder / 'artifacts'}", f"paths.cache={cache}"]
    return main([f"adapter={folder / 'run'}{policy}", f"output={folder / output}", *paths])


def merged(exported, tiny_config, cache):
    policy = build_policy(tiny_config, cache, torch.device("cpu"))
    for adapter in read_trained(str(exported / "run"), exported / "artifacts").adapters:
        merge_adapter(policy, adapter)
    return policy


@pytest.fixture
def prompt(encoder):
    example = make_example(turns=("I lost my job.", "When?", "On Monday."))
    return encoder.encode(example, [[face("red")], [], []])


def logits(policy, prompt):
    with torch.no_grad():
        return policy(collate([prompt], pad_id=policy.pad_id)).logits


def test_transformers_alone_gives_the_logits_and_the_answer_of_the_merged_policy(exported, tiny_config, cache, prompt, tmp_path):
    policy = merged(exported, tiny_config, cache)
    words = PromptEncoder(policy.processor, FLEXIBLE, 1000).encode(make_example(turns=("I lost my job.",)), [[]])
    messages = [
        {"role": "system", "content": [{"type": "text", "text": system_prompt_of(exported)}]},
        {"role": "user", "content": [{"type": "text", "text": "Seeker: I lost my job."}]},
    ]
    inputs = collate([prompt], pad_id=policy.pad_id)
    torch.save(
        {
            "messages": messages,
            "input_ids": inputs.input_ids,
            "attention_mask": inputs.attention_mask.long(),
            "mm_token_type_ids": inputs.token_types,
            "pixel_values": inputs.pixel_values,
            "image_grid_thw": inputs.image_grid_thw,
        },
        tmp_path / "prompt.pt",
    )
    command = [sys.executable, "-c", ALONE, str(exported / "model"), str(tmp_path / "prompt.pt"), str(tmp_path / "seen.pt")]
    subprocess.run(command, check=True, cwd=tmp_path)
    seen = torch.load(tmp_path / "seen.pt", weights_only=True)
    assert torch.equal(seen["logits"], logits(policy, prompt))
    assert torch.equal(seen["ids"][0], words.prompt_ids), "the card's messages are the evaluation's prompt"
    decoding = composed("scale=smoke").predict.decoding
    ((ours,),) = sample_completions(policy, [words], decoding, [[0]])
    assert torch.equal(seen["answer"], ours.ids)
    assert seen["merge"] == 2


def system_prompt_of(exported):
    card = (exported / "model" / "README.md").read_text()
    return re.search(r"`SYSTEM` is the system prompt that it was trained with:\n\n```\n(.*?)\n```\n\n", card, re.S)[1]


def test_the_one_adapter_is_equivalent_to_the_two(exported, tiny, tiny_config, cache, prompt):
    untrained = logits(tiny, prompt)
    one = load_file(exported / "model" / "adapter" / "adapter_model.safetensors")
    assert {tensor.shape[0] for name, tensor in one.items() if ".lora_A." in name} == {16}, "8 of SFT and 8 of GRPO"
    tiny.model = PeftModel.from_pretrained(tiny.model, str(exported / "model" / "adapter"))
    tiny.eval()
    theirs = logits(merged(exported, tiny_config, cache), prompt)
    assert (logits(tiny, prompt) - theirs).abs().max() < 1e-4
    assert (untrained - theirs).abs().max() > 1e-2, "the adapters change the logits"


def test_the_card_states_data_licenses_intervals_commit_and_limits(exported):
    text = (exported / "model" / "README.md").read_text()
    card = ModelCard(text)
    assert (card.data.license, card.data.library_name, card.data.pipeline_tag) == (
        "apache-2.0",
        "transformers",
        "image-text-to-text",
    )
    run = json.loads((exported / "run" / "run.json").read_text())
    assert run["commit"] in text
    assert run["config_sha256"] in text
    (row,) = [
        row for row in json.loads((exported / "run" / "metrics.json").read_text())["policies"]["grpo"] if row["name"] == "BLEU-2"
    ]
    assert f"| BLEU-2 | ↑ | {row['value']:.2f} | {row['low']:.2f} to {row['high']:.2f} |" in text
    assert "no substitute for care" in text
    assert "Invented and drawn for this project" in text
    assert "written by rules from the corpus's labels" in text


def test_no_exported_file_contains_a_path_of_the_machine(exported, cache):
    for path in (exported / "model").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert str(exported).encode() not in content, path
            assert str(cache).encode() not in content, path


def test_the_cold_start_alone_is_exported_where_it_is_named(exported, cache):
    assert export(exported, cache, policy=":sft", output="sft") == 0
    model = exported / "sft"
    one = load_file(model / "adapter" / "adapter_model.safetensors")
    assert {tensor.shape[0] for name, tensor in one.items() if ".lora_A." in name} == {8}
    assert "# smoke (sft)" in (model / "README.md").read_text()


def test_an_existing_folder_is_not_changed_and_a_refused_export_leaves_none(exported, cache, capsys):
    (exported / "mine").mkdir()
    assert export(exported, cache, policy="", output="mine") == 2
    assert f"fires_exp: output={exported / 'mine'}: exists" in capsys.readouterr().err
    assert export(exported, cache, policy=":zero_shot", output="nothing") == 2
    assert f"fires_exp: adapter={exported / 'run'}:zero_shot: nothing was trained" in capsys.readouterr().err
    assert not list((exported / "mine").iterdir())
    assert not (exported / "nothing").exists()


def test_without_output_the_model_goes_into_the_run_folder(exported, cache):
    run = ["adapter=" + str(exported / "run"), f"paths.artifacts={exported / 'artifacts'}", f"paths.cache={cache}"]
    assert main(run) == 0
    assert (exported / "run" / "model" / "README.md").is_file()
    assert main(run) == 2, "the folder exists now"


def test_an_unusable_run_is_one_line(exported, tmp_path):
    artifacts = exported / "artifacts"
    with pytest.raises(ConfigError, match=r"nowhere/run.json"):
        read_trained(str(tmp_path / "nowhere"), artifacts)
    with pytest.raises(ConfigError, match=r"the run has zero_shot, sft, grpo; write adapter=\S+run:grpo"):
        read_trained(f"{exported / 'run'}:best", artifacts)
    copy = shutil.copytree(exported / "run", tmp_path / "copy")
    tree = (copy / "resolved.yaml").read_text()
    (copy / "resolved.yaml").write_text(tree.replace("trained_baseline:\n  name: none", "trained_baseline:\n  name: smes"))
    with pytest.raises(ConfigError, match="trained baseline"):
        read_trained(str(copy), artifacts)
    (copy / "resolved.yaml").write_text(tree)
    facts = json.loads((copy / "run.json").read_text())
    for policy in facts["policies"].values():
        for artifact in policy:
            artifact["folder"] = "/gone"
    (copy / "run.json").write_text(json.dumps(facts))
    assert len(read_trained(str(copy), artifacts).adapters) == 2, "they are found by their keys"
    with pytest.raises(StageError, match=r"/gone and .* write paths\.artifacts="):
        read_trained(str(copy), tmp_path)


def test_the_run_s_backbone_is_used_unless_one_of_the_same_name_is_configured(exported):
    trained = read_trained(str(exported / "run"), exported / "artifacts")

    def model_with(*overrides):
        return model_config(trained, composed_command("chat", *overrides).backbone)

    assert model_with().backbone.name == "tiny"
    assert model_with("backbone=tiny", "backbone.dtype=bfloat16").backbone.dtype == "bfloat16"
    assert model_with().aspects.plan == "flexible"
    assert model_with().predict.decoding.max_new_tokens == composed("scale=smoke").predict.decoding.max_new_tokens


def test_a_run_of_an_earlier_version_is_refused_in_one_line(exported, tmp_path):
    copy = shutil.copytree(exported / "run", tmp_path / "copy", ignore=shutil.ignore_patterns("model"))
    facts = json.loads((copy / "run.json").read_text())
    del facts["policies"]
    (copy / "run.json").write_text(json.dumps(facts))
    with pytest.raises(ConfigError, match=r"run\.json lists no policies"):
        read_trained(str(copy), exported / "artifacts")
