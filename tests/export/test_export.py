"""`recipe=export`: a folder that transformers alone loads, and one adapter that does what the run's two did."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import torch
from huggingface_hub import ModelCard
from making import face, make_example
from peft import PeftModel
from safetensors.torch import load_file
from trained_run import composed, run_small

from fires_exp.errors import ConfigError, StageError
from fires_exp.export.load_run import read_trained, with_model_of
from fires_exp.pipeline.run import run_recipe
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
def place(tmp_path_factory, cache):
    """A finished run in `run`, exported to `model`."""
    folder = tmp_path_factory.mktemp("export")
    run_small(folder, cache)
    export(folder, cache)
    return folder


def export(folder, cache, *overrides, to="model"):
    out = folder / f"exporting_{to}"
    out.mkdir()
    places = [f"paths.artifacts={folder / 'artifacts'}", f"paths.cache={cache}", f"export_folder={folder / to}"]
    run_recipe(composed("recipe=export", f"adapter={folder / 'run'}", *places, *overrides), out)
    return folder / to


def folded(place, tiny_config, cache):
    policy = build_policy(tiny_config, cache, torch.device("cpu"))
    for adapter in read_trained(str(place / "run"), place / "artifacts").adapters:
        merge_adapter(policy, adapter)
    return policy


@pytest.fixture
def prompt(encoder):
    example = make_example(turns=("I lost my job.", "When?", "On Monday."))
    return encoder.encode(example, [[face("red")], [], []])


def logits(policy, prompt):
    with torch.no_grad():
        return policy(collate([prompt], pad_id=policy.pad_id)).logits


def test_transformers_alone_gives_the_logits_and_the_answer_of_the_folded_policy(place, tiny_config, cache, prompt, tmp_path):
    policy = folded(place, tiny_config, cache)
    text = PromptEncoder(policy.processor, prompt_plan(place, cache), 1000)
    words = text.encode(make_example(turns=("I lost my job.",)), [[]])
    messages = [
        {"role": "system", "content": [{"type": "text", "text": system_prompt_of(place)}]},
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
    command = [sys.executable, "-c", ALONE, str(place / "model"), str(tmp_path / "prompt.pt"), str(tmp_path / "seen.pt")]
    subprocess.run(command, check=True, cwd=tmp_path)
    seen = torch.load(tmp_path / "seen.pt", weights_only=True)
    assert torch.equal(seen["logits"], logits(policy, prompt))
    assert torch.equal(seen["ids"][0], words.prompt_ids), "the card's messages are the evaluation's prompt"
    decoding = composed("scale=smoke").predict.decoding
    ((ours,),) = sample_completions(policy, [words], decoding, [[0]])
    assert torch.equal(seen["answer"], ours.ids)
    assert seen["merge"] == 2


def prompt_plan(place, cache):
    from fires_exp.pipeline.workspace import Workspace

    return Workspace(composed("backbone=tiny", f"paths.cache={cache}"), place).plan


def system_prompt_of(place):
    card = (place / "model" / "README.md").read_text()
    return re.search(r"`SYSTEM` is what it was trained with:\n\n```\n(.*?)\n```\n\n", card, re.S)[1]


def test_the_one_adapter_does_what_the_two_did(place, tiny, tiny_config, cache, prompt):
    untrained = logits(tiny, prompt)
    one = load_file(place / "model" / "adapter" / "adapter_model.safetensors")
    assert {tensor.shape[0] for name, tensor in one.items() if ".lora_A." in name} == {16}, "8 of SFT and 8 of GRPO"
    tiny.model = PeftModel.from_pretrained(tiny.model, str(place / "model" / "adapter"))
    tiny.eval()
    theirs = logits(folded(place, tiny_config, cache), prompt)
    assert (logits(tiny, prompt) - theirs).abs().max() < 1e-4
    assert (untrained - theirs).abs().max() > 1e-2, "there was something to do"


def test_the_card_states_data_licenses_intervals_commit_and_limits(place):
    text = (place / "model" / "README.md").read_text()
    card = ModelCard(text)
    assert (card.data.license, card.data.library_name, card.data.pipeline_tag) == (
        "apache-2.0",
        "transformers",
        "image-text-to-text",
    )
    run = json.loads((place / "run" / "run.json").read_text())
    assert run["commit"] in text
    assert run["config_sha256"] in text
    (row,) = [
        row for row in json.loads((place / "run" / "metrics.json").read_text())["policies"]["grpo"] if row["name"] == "BLEU-2"
    ]
    assert f"| BLEU-2 | ↑ | {row['value']:.2f} | {row['low']:.2f} to {row['high']:.2f} |" in text
    assert "no substitute for care" in text
    assert "Invented and drawn for this project" in text
    assert "written by rules from the corpus's labels" in text


def test_nothing_exported_names_a_place_on_the_machine(place, cache):
    for path in (place / "model").rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert str(place).encode() not in content, path
            assert str(cache).encode() not in content, path


def test_the_cold_start_alone_is_exported_where_it_is_named(place, cache):
    model = export(place, cache, f"adapter={place / 'run'}:sft", to="sft")
    one = load_file(model / "adapter" / "adapter_model.safetensors")
    assert {tensor.shape[0] for name, tensor in one.items() if ".lora_A." in name} == {8}
    assert "# demo (sft)" in (model / "README.md").read_text()


def test_a_folder_that_is_there_is_left_alone_and_a_failed_export_leaves_none(place, cache):
    (place / "mine").mkdir()
    with pytest.raises(StageError, match="mine is there already; write export_folder=<a new folder>"):
        export(place, cache, to="mine")
    with pytest.raises(StageError, match="trained nothing"):
        export(place, cache, f"adapter={place / 'run'}:zero_shot", to="nothing")
    assert not (place / "nothing").exists()


def test_what_is_no_model_of_a_run_is_one_line(place, tmp_path):
    artifacts = place / "artifacts"
    with pytest.raises(ConfigError, match=r"nowhere/run.json is not there; name the folder of a run"):
        read_trained(str(tmp_path / "nowhere"), artifacts)
    with pytest.raises(ConfigError, match=r"the run has zero_shot, sft, grpo; write adapter=\S+run:grpo"):
        read_trained(f"{place / 'run'}:best", artifacts)
    copy = shutil.copytree(place / "run", tmp_path / "copy")
    tree = (copy / "resolved.yaml").read_text()
    (copy / "resolved.yaml").write_text(tree.replace("trained_baseline:\n  name: none", "trained_baseline:\n  name: smes"))
    with pytest.raises(ConfigError, match="a trained baseline answers in a form of its own"):
        read_trained(str(copy), artifacts)
    (copy / "resolved.yaml").write_text(tree)
    facts = json.loads((copy / "run.json").read_text())
    for stage in facts["stages"]:
        stage["folder"] = "/gone"
    (copy / "run.json").write_text(json.dumps(facts))
    assert len(read_trained(str(copy), artifacts).adapters) == 2, "found by its key"
    with pytest.raises(StageError, match="/gone is gone, and nothing is in"):
        read_trained(str(copy), tmp_path)


def test_the_run_s_backbone_is_taken_unless_the_same_one_is_configured(place):
    trained = read_trained(str(place / "run"), place / "artifacts")
    assert with_model_of(composed(), trained).backbone.name == "tiny"
    assert with_model_of(composed("backbone=tiny", "backbone.dtype=bfloat16"), trained).backbone.dtype == "bfloat16"
    assert with_model_of(composed("aspects=no_thought", "prompt=default"), trained).aspects.plan == "flexible"
