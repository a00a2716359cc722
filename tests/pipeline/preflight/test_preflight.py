"""What a run says before it starts: counts that the run itself confirms, and refusals that name what to lower."""

import json
import logging
import re
from dataclasses import replace

import pytest
import torch
from hydra import compose, initialize_config_module
from making import FLEXIBLE, make_example

from fires_exp.config.load import load_config, register_schema, write_yaml
from fires_exp.errors import ExhaustedError
from fires_exp.pipeline.preflight import resources
from fires_exp.pipeline.preflight.check import refuse_too_big
from fires_exp.pipeline.preflight.estimate import look_ahead, steps_left
from fires_exp.pipeline.preflight.memory import Setting, answering_memory, grpo_memory, sft_memory
from fires_exp.pipeline.preflight.model_dims import read_shape
from fires_exp.pipeline.preflight.suggestions import what_fits
from fires_exp.pipeline.preflight.token_lengths import Lengths
from fires_exp.pipeline.run import run_recipe
from fires_exp.pipeline.workspace import Workspace
from fires_exp.policy.adapters import add_adapter, check_trainable
from fires_exp.policy.logprobs import completion_logprobs, group_logprobs
from fires_exp.policy.native.decoding import NativeDecoding
from fires_exp.prompts.collate import collate
from fires_exp.prompts.processor import PromptEncoder
from fires_exp.training.fit import training_plan

SMALL = [
    "+experiment=smoke", "frames=none", "metrics.include=[rouge_l]", "reward=wo_support_skill",
    "dataset.limit.train=9", "dataset.limit.test=3", "trainer.progress=false", "predict.batch_size=2",
]  # fmt: skip


@pytest.fixture
def configured(tmp_path, cache):
    register_schema()

    def make(*overrides):
        places = [f"paths.artifacts={tmp_path / 'artifacts'}", f"paths.cache={cache}"]
        with initialize_config_module("fires_exp.conf", version_base="1.3"):
            return load_config(compose("config", overrides=[*SMALL, *places, *overrides]))

    return make


@pytest.fixture
def run(tmp_path, configured):
    def start(*overrides, name="run"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        config = configured(*overrides)
        write_yaml(config, folder / "resolved.yaml")
        run_recipe(config, folder)
        return folder

    return start


@pytest.fixture
def setting(tiny_config, cache):
    return Setting(shape=read_shape(tiny_config, cache), element=4, on_gpu=False, ranks=1)


def lengths(prompt, completion, pictures=0):
    return Lengths(
        mean_prompt=prompt,
        longest_prompt=prompt,
        pictures=pictures,
        frame_tokens=16,
        mean_completion=completion,
        longest_completion=completion,
    )


def test_the_shape_counts_what_the_loaded_model_has_and_what_its_adapter_trains(tiny, lora, setting):
    shape = setting.shape
    assert shape.parameters == sum(one.numel() for one in tiny.qwen.parameters())
    assert shape.vision_parameters == sum(one.numel() for one in tiny.qwen.model.visual.parameters())
    assert (shape.layers, shape.hidden, shape.query_width, shape.key_width, shape.intermediate) == (2, 64, 64, 32, 128)
    add_adapter(tiny, lora, seed=0)
    assert shape.adapter_parameters(lora) == check_trainable(tiny, lora)


@pytest.mark.parametrize(("batch_size", "epochs", "max_steps"), [(4, 2, None), (4, 3, 5), (9, 1, None), (2, 2, 100), (4, 2, 1)])
def test_steps_and_instances_that_are_left_are_those_of_the_plan(configured, batch_size, epochs, max_steps):
    limit = "null" if max_steps is None else max_steps
    config = configured(f"sft.batch_size={batch_size}", f"sft.epochs={epochs}", f"sft.max_steps={limit}").sft
    plan = training_plan(config, 9, 0)
    for done in range(len(plan) + 1):
        assert steps_left(config, 9, done) == (len(plan) - done, sum(map(len, plan[done:])))


def kept_bytes(policy, run):
    """Bytes that autograd keeps, each piece of memory once, the policy's own left out."""
    own = {one.untyped_storage().data_ptr() for one in (*policy.parameters(), *policy.buffers())}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = tensor  # held, so that no other tensor gets its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = run()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()), result


@pytest.mark.parametrize("stage", ["sft", "grpo"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations_are_what_autograd_keeps(tiny, lora, configured, setting, stage, dtype):
    """No estimate but a count: within a tenth, of which logits and masks have their part."""
    tiny.model.to(dtype)
    add_adapter(tiny, lora, seed=0)
    tiny.train()
    prompt = PromptEncoder(tiny.processor, FLEXIBLE, 2000).encode(make_example(turns=["I lost my job and I am sad. " * 30]), [[]])
    completions = [torch.arange(30, 54) for _ in range(4)]
    if stage == "sft":
        inputs = collate([prompt] * 4, completions, pad_id=tiny.pad_id)
        found, result = kept_bytes(tiny, lambda: completion_logprobs(tiny, inputs, 1.0))
        found -= 4 * 24 * setting.shape.vocabulary * 4
    else:
        found, result = kept_bytes(tiny, lambda: group_logprobs(tiny, prompt, completions, 1.0, recompute=False))
    assert result.logprobs_BC.requires_grad
    config = configured("sft.micro_batch_size=4", "sft.batch_size=4", "grpo.micro_batch_size=4", "sampling.max_new_tokens=24",
        "sft.lora.rank=4", "grpo.lora.rank=4", "sft.lora.train_vision=false", "prompt.max_tokens=2000")  # fmt: skip
    estimate = sft_memory if stage == "sft" else grpo_memory
    setting = Setting(shape=setting.shape, element=dtype.itemsize, on_gpu=False, ranks=1)
    rows = len(prompt.prompt_ids) + 4 * 24 if stage == "grpo" else 4 * (len(prompt.prompt_ids) + 24)
    passing = rows * (dtype.itemsize * 3 * 128 + 4 * 3 * 64)
    told = estimate(setting, config, lengths(len(prompt.prompt_ids), 24)).activations - passing
    assert told == pytest.approx(found, rel=0.1)


def test_recomputing_keeps_states_of_all_layers_and_one_layer_whole(configured, setting):
    whole, recomputed = (
        sft_memory(setting, configured("sft.micro_batch_size=1", f"sft.gradient_checkpointing={on}"), lengths(76, 24)).activations
        for on in ("false", "true")
    )
    states = 100 * 4 * 64  # 100 tokens, float32, 64 wide
    passing = 100 * (4 * 3 * 128 + 4 * 3 * 64)
    assert recomputed - passing == pytest.approx(2 * states + (whole - passing) / 2)


def test_the_cache_is_what_decoding_allocates(tiny, configured, setting):
    prompt = PromptEncoder(tiny.processor, FLEXIBLE, 2000).encode(make_example(), [[]])
    with torch.inference_mode():
        decoding = NativeDecoding(tiny, [prompt, prompt], 4, 24)
    buffers = (decoding.keys_LPHDT, decoding.values_LPHTD, decoding.own_keys_LPHMCD, decoding.own_values_LPHMCD)
    allocated = sum(one.numel() * one.element_size() for one in buffers)
    config = configured("grpo.batch_size=2", "grpo.num_generations=4", "sampling.max_new_tokens=24")
    told = grpo_memory(setting, config, lengths(len(prompt.prompt_ids), 24)).cache
    assert told == allocated * 3 // 2  # and half of it while rows are taken out


def test_ranks_share_the_batch_and_a_gpu_holds_its_pictures_elsewhere(configured, setting):
    config = configured("grpo.batch_size=8", "prompt.max_tokens=600")
    one = grpo_memory(setting, config, lengths(400, 24, pictures=64))
    two = grpo_memory(Setting(shape=setting.shape, element=4, on_gpu=True, ranks=2), config, lengths(400, 24, pictures=64))
    assert two.cache * 2 == one.cache
    assert two.pictures == 4 * 64 * 4 * 1176 * 4  # prompts, image tokens, patches a token, values a patch, bytes
    assert two.host >= two.pictures
    assert one.host == 0


def test_answers_take_more_with_more_at_a_time(configured, setting):
    few, many = (answering_memory(setting, configured(f"predict.batch_size={size}"), lengths(100, 24)) for size in (2, 8))
    assert many.cache == 4 * few.cache
    assert many.peak > few.peak


GIGABYTE = 10**9


@pytest.fixture
def control_groups(tmp_path):
    """A folder like /sys/fs/cgroup, and the process's own line."""

    def make(version, limits):
        root = tmp_path / "cgroup" if version == 2 else tmp_path / "cgroup" / "memory"
        names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        for group, (limit, used) in limits.items():
            (root / group).mkdir(parents=True, exist_ok=True)
            (root / group / names[0]).write_text(f"{limit}\n")
            (root / group / names[1]).write_text(f"{used}\n")
            (root / group / "memory.stat").write_text("inactive_file 1000\ntotal_inactive_file 1000\n")
        own = tmp_path / "own"
        own.write_text("0::/slurm/job_7\n" if version == 2 else "5:cpu:/x\n4:memory:/slurm/job_7\n")
        return tmp_path / "cgroup", own

    return make


@pytest.mark.parametrize("version", [1, 2])
def test_memory_is_what_the_narrowest_control_group_leaves(control_groups, version, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 64 * GIGABYTE}))
    none = 2**63 - 4096 if version == 1 else "max"
    wide = {"": (none, 30 * GIGABYTE), "slurm": (none, 20 * GIGABYTE)}
    place = control_groups(version, wide | {"slurm/job_7": (none, GIGABYTE)})
    assert resources.free_memory(*place) == 64 * GIGABYTE
    place = control_groups(version, wide | {"slurm/job_7": (16 * GIGABYTE, 6 * GIGABYTE)})
    assert resources.free_memory(*place) == 10 * GIGABYTE + 1000
    place = control_groups(version, wide | {"slurm": (23 * GIGABYTE, 20 * GIGABYTE)})
    assert resources.free_memory(*place) == 3 * GIGABYTE + 1000


def test_memory_without_control_groups_is_the_machine_s(tmp_path, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 7}))
    assert resources.free_memory(tmp_path / "none", tmp_path / "none") == 7


class TestWhatFits:
    def test_the_first_key_that_will_do_is_lowered_no_further_than_needed(self, configured):
        config = configured("sft.micro_batch_size=8", "sft.gradient_checkpointing=false")
        assert what_fits(config, "sft", lambda other: 100 * other.sft.micro_batch_size, 250) == ({"sft.micro_batch_size": 2}, 200)

    def test_where_one_key_will_not_do_another_is_tried(self, configured):
        config = configured("sft.micro_batch_size=2", "sft.gradient_checkpointing=false")
        found = what_fits(config, "sft", lambda other: 10 if other.sft.gradient_checkpointing else 1000, 250)
        assert found == ({"sft.gradient_checkpointing": True}, 10)

    def test_where_no_single_key_will_do_several_are_lowered_together(self, configured):
        config = configured("sft.micro_batch_size=4", "sft.gradient_checkpointing=false")

        def need(other):
            return other.sft.micro_batch_size * (100 if other.sft.gradient_checkpointing else 300)

        found = what_fits(config, "sft", need, 120)
        assert found == ({"sft.micro_batch_size": 1, "sft.gradient_checkpointing": True}, 100)

    def test_where_nothing_will_do_there_is_nothing_to_write(self, configured):
        assert what_fits(configured(), "sft", lambda other: 1000, 250) is None


def test_a_run_that_cannot_fit_is_refused_in_one_line_before_anything_is_made(run, tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "free_memory_here", lambda: 21_500_000)
    with pytest.raises(ExhaustedError) as caught:
        run("recipe=sft_only", "sft.micro_batch_size=4", "sft.batch_size=4")
    line = str(caught.value)
    told = (
        r"sft would take about [\d.]+ MB of memory and 21\.5 MB are free: write sft\.micro_batch_size=\d, which takes [\d.]+ MB"
    )
    assert re.fullmatch(told + r"; trainer\.enforce_resource_estimate=false tries it all the same", line)
    assert not list((tmp_path / "artifacts").rglob("done.json"))
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["status"].startswith("ExhaustedError: sft would take")
    assert facts["ahead"]["free"] == 21_500_000


def test_what_is_written_there_does_fit(configured, tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "free_memory_here", lambda: 21_500_000)
    config = configured("recipe=sft_only", "sft.micro_batch_size=4", "sft.batch_size=4")
    outlook = look_ahead(Workspace(config, tmp_path))
    with pytest.raises(ExhaustedError, match=r"write sft\.micro_batch_size=(\d)") as caught:
        refuse_too_big(outlook, config)
    lowered = re.search(r"write (sft\.micro_batch_size=\d)", str(caught.value))[1]
    config = configured("recipe=sft_only", "sft.batch_size=4", lowered)
    refuse_too_big(look_ahead(Workspace(config, tmp_path)), config)


def test_where_only_the_heap_s_gaps_may_be_too_much_it_is_a_warning(configured, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("fires_exp"), "propagate", True)
    config = configured("recipe=sft_only", "sft.micro_batch_size=4", "sft.batch_size=4")
    outlook = look_ahead(Workspace(config, tmp_path))
    memory = next(one.memory for one in outlook.stages if one.stage == "sft")
    assert memory.gaps == round(0.5 * (memory.activations + memory.vision + memory.logits))
    for more, warns in ((1, True), (memory.gaps + 1, False)):
        caplog.clear()
        refuse_too_big(replace(outlook, free=memory.peak + more), config)
        assert ("sft may take" in caplog.text) is warns


def test_a_disk_that_is_too_small_is_told_before_anything_is_made(run, monkeypatch):
    monkeypatch.setattr(resources, "free_disk", lambda folder: 1000)
    with pytest.raises(ExhaustedError, match=r"^the run would write about [\d.]+ MB and 1 kB of disk are free: make room"):
        run("recipe=sft_only")


def test_it_may_be_tried_all_the_same(run, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("fires_exp"), "propagate", True)
    monkeypatch.setattr(resources, "free_memory_here", lambda: 1_000_000)
    with caplog.at_level(logging.WARNING, logger="fires_exp"):
        run("recipe=sft_only", "plan_only=true", "trainer.enforce_resource_estimate=false")
    assert "sft would take about" in caplog.text
    assert "no setting lowers it enough" in caplog.text


def test_a_plan_makes_nothing_and_counts_what_the_run_then_does(run, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("fires_exp"), "propagate", True)
    with caplog.at_level(logging.INFO, logger="fires_exp"):
        ahead = json.loads((run("plan_only=true", name="plan") / "run.json").read_text())["ahead"]
        assert not (tmp_path / "artifacts").exists()
        stages = {one["label"]: one for one in ahead["stages"]}
        assert list(stages) == ["thoughts", "sft", "grpo", "answers of zero_shot", "answers of sft", "answers of grpo"]
        assert (stages["sft"]["steps"], stages["sft"]["prompts"]) == (2, 8)  # two steps of four
        assert (stages["grpo"]["prompts"], stages["grpo"]["completion_tokens"]) == (4, 4 * 4 * 12)  # 4 generations of 12
        assert (stages["answers of sft"]["steps"], stages["answers of sft"]["prompts"]) == (2, 3)
        folder = run("recipe=sft_only", name="real")
        again = json.loads((run("plan_only=true", name="again") / "run.json").read_text())["ahead"]
    assert len([line for line in (folder / "metrics.jsonl").read_text().splitlines() if "sft/loss" in line]) == 2
    finished = [one["label"] for one in again["stages"] if one["finished"]]
    assert finished == ["thoughts", "sft", "answers of zero_shot", "answers of sft"]
    assert "answers of sft        finished" in caplog.text
    written = sum(path.stat().st_size for path in (tmp_path / "artifacts" / "sft").rglob("*") if path.is_file())
    assert stages["sft"]["disk"] > written


def test_prompts_are_as_long_as_they_are_told(configured, tmp_path, tiny):
    config = configured("recipe=sft_only", "dataset.limit.train=9")
    work = Workspace(config, tmp_path)
    told = look_ahead(work).prompts["train"]
    encode = work.encode(tiny.processor, work.dataset, work.examples("train"))
    found = [len(encode(example).prompt_ids) for example in work.examples("train")]
    assert (told.mean_prompt, told.longest_prompt) == (pytest.approx(sum(found) / 9), max(found))


def test_frames_are_counted_without_reading_all_of_them(configured, tmp_path, tiny):
    config = configured("recipe=sft_only", "dataset.limit.train=9", "frames.max_frames=2", "prompt.max_tokens=4096")
    work = Workspace(config, tmp_path)
    told = look_ahead(work).prompts["train"]
    encode = work.encode(tiny.processor, work.dataset, work.examples("train"))
    prompts = [encode(example) for example in work.examples("train")]
    assert told.pictures == max(int(prompt.token_types.sum()) for prompt in prompts)
    assert told.longest_prompt == max(len(prompt.prompt_ids) for prompt in prompts)
