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
from fires_exp.pipeline.planner import make_plan
from fires_exp.pipeline.preflight import resources
from fires_exp.pipeline.preflight.check import check_resources
from fires_exp.pipeline.preflight.memory import Hardware, grpo_memory, prediction_memory, sft_memory
from fires_exp.pipeline.preflight.model_dims import read_model_dims
from fires_exp.pipeline.preflight.stage_estimate import steps_left
from fires_exp.pipeline.preflight.suggestions import smallest_change
from fires_exp.pipeline.preflight.token_lengths import TokenLengths
from fires_exp.pipeline.run import estimate_plan, run_recipe
from fires_exp.pipeline.run_folder import RunFolder
from fires_exp.pipeline.stages.sft import SftStage
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
def hardware(tiny_config, cache):
    return Hardware(dims=read_model_dims(tiny_config, cache), element=4, on_gpu=False, ranks=1)


def lengths(prompt, completion, pictures=0):
    return TokenLengths(
        mean_prompt=prompt,
        longest_prompt=prompt,
        pictures=pictures,
        frame_tokens=16,
        mean_completion=completion,
        longest_completion=completion,
    )


def test_the_shape_counts_what_the_loaded_model_has_and_what_its_adapter_trains(tiny, lora, hardware):
    dims = hardware.dims
    assert dims.parameters == sum(one.numel() for one in tiny.qwen.parameters())
    assert dims.vision_parameters == sum(one.numel() for one in tiny.qwen.model.visual.parameters())
    assert (dims.layers, dims.hidden, dims.query_width, dims.key_width, dims.intermediate) == (2, 64, 64, 32, 128)
    add_adapter(tiny, lora, seed=0)
    assert dims.adapter_parameters(lora) == check_trainable(tiny, lora)


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
def test_activations_are_what_autograd_keeps(tiny, lora, configured, hardware, stage, dtype):
    """No estimate but a count: within a tenth, of which logits and masks have their part."""
    tiny.model.to(dtype)
    add_adapter(tiny, lora, seed=0)
    tiny.train()
    prompt = PromptEncoder(tiny.processor, FLEXIBLE, 2000).encode(make_example(turns=["I lost my job and I am sad. " * 30]), [[]])
    completions = [torch.arange(30, 54) for _ in range(4)]
    if stage == "sft":
        inputs = collate([prompt] * 4, completions, pad_id=tiny.pad_id)
        found, result = kept_bytes(tiny, lambda: completion_logprobs(tiny, inputs, 1.0))
        found -= 4 * 24 * hardware.dims.vocabulary * 4
    else:
        found, result = kept_bytes(tiny, lambda: group_logprobs(tiny, prompt, completions, 1.0, recompute=False))
    assert result.logprobs_BC.requires_grad
    config = configured("sft.micro_batch_size=4", "sft.batch_size=4", "grpo.micro_batch_size=4", "sampling.max_new_tokens=24",
        "sft.lora.rank=4", "grpo.lora.rank=4", "sft.lora.train_vision=false", "prompt.max_tokens=2000")  # fmt: skip
    estimate = sft_memory if stage == "sft" else grpo_memory
    hardware = Hardware(dims=hardware.dims, element=dtype.itemsize, on_gpu=False, ranks=1)
    rows = len(prompt.prompt_ids) + 4 * 24 if stage == "grpo" else 4 * (len(prompt.prompt_ids) + 24)
    passing = rows * (dtype.itemsize * 3 * 128 + 4 * 3 * 64)
    told = estimate(hardware, config, lengths(len(prompt.prompt_ids), 24)).activations - passing
    assert told == pytest.approx(found, rel=0.1)


def test_recomputing_keeps_states_of_all_layers_and_one_layer_whole(configured, hardware):
    whole, recomputed = (
        sft_memory(
            hardware, configured("sft.micro_batch_size=1", f"sft.gradient_checkpointing={on}"), lengths(76, 24)
        ).activations
        for on in ("false", "true")
    )
    states = 100 * 4 * 64  # 100 tokens, float32, 64 wide
    passing = 100 * (4 * 3 * 128 + 4 * 3 * 64)
    assert recomputed - passing == pytest.approx(2 * states + (whole - passing) / 2)


def test_the_cache_is_what_decoding_allocates(tiny, configured, hardware):
    prompt = PromptEncoder(tiny.processor, FLEXIBLE, 2000).encode(make_example(), [[]])
    with torch.inference_mode():
        decoding = NativeDecoding(tiny, [prompt, prompt], 4, 24)
    buffers = (decoding.keys_LPKWT, decoding.values_LPKTW, decoding.own_keys_LPKSCW, decoding.own_values_LPKSCW)
    allocated = sum(one.numel() * one.element_size() for one in buffers)
    config = configured("grpo.batch_size=2", "grpo.num_generations=4", "sampling.max_new_tokens=24")
    told = grpo_memory(hardware, config, lengths(len(prompt.prompt_ids), 24)).cache
    assert told == allocated * 3 // 2  # and half of it while rows are taken out


def test_ranks_share_the_batch_and_a_gpu_holds_its_pictures_elsewhere(configured, hardware):
    config = configured("grpo.batch_size=8", "prompt.max_tokens=600")
    one = grpo_memory(hardware, config, lengths(400, 24, pictures=64))
    two = grpo_memory(Hardware(dims=hardware.dims, element=4, on_gpu=True, ranks=2), config, lengths(400, 24, pictures=64))
    assert two.cache * 2 == one.cache
    assert two.pictures == 4 * 64 * 4 * 1176 * 4  # prompts, image tokens, patches a token, values a patch, bytes
    assert two.host >= two.pictures
    assert one.host == 0


def test_answers_take_more_with_more_at_a_time(configured, hardware):
    few, many = (prediction_memory(hardware, configured(f"predict.batch_size={size}"), lengths(100, 24)) for size in (2, 8))
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


class TestSmallestChange:
    KEYS = SftStage.memory_settings

    def test_the_first_key_that_is_enough_is_lowered_no_further_than_needed(self, configured):
        config = configured("sft.micro_batch_size=8", "sft.gradient_checkpointing=false")
        change = smallest_change(config, self.KEYS, lambda other: 100 * other.sft.micro_batch_size, 250)
        assert change == ({"sft.micro_batch_size": 2}, 200)

    def test_where_one_key_is_not_enough_another_is_tried(self, configured):
        config = configured("sft.micro_batch_size=2", "sft.gradient_checkpointing=false")
        change = smallest_change(config, self.KEYS, lambda other: 10 if other.sft.gradient_checkpointing else 1000, 250)
        assert change == ({"sft.gradient_checkpointing": True}, 10)

    def test_where_no_single_key_is_enough_several_are_lowered_together(self, configured):
        config = configured("sft.micro_batch_size=4", "sft.gradient_checkpointing=false")

        def need(other):
            return other.sft.micro_batch_size * (100 if other.sft.gradient_checkpointing else 300)

        change = smallest_change(config, self.KEYS, need, 120)
        assert change == ({"sft.micro_batch_size": 1, "sft.gradient_checkpointing": True}, 100)

    def test_where_nothing_is_enough_there_is_no_change(self, configured):
        assert smallest_change(configured(), self.KEYS, lambda other: 1000, 250) is None


@pytest.fixture
def planned(tmp_path):
    """A function from a configuration to its planner."""
    return lambda config: make_plan(config, RunFolder(tmp_path, config))


def check(planner):
    estimate, sizes = estimate_plan(planner)
    check_resources(estimate, planner.stages, sizes, planner.config)


def test_a_run_that_cannot_fit_is_refused_in_one_line_before_anything_is_made(run, tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "free_memory_here", lambda: 21_500_000)
    with pytest.raises(ExhaustedError) as caught:
        run("recipe=sft_only", "sft.micro_batch_size=4", "sft.batch_size=4")
    line = str(caught.value)
    assert re.match(r"sft would take about [\d.]+ MB of memory and 21\.5 MB are free: write sft\.micro_batch_size=\d, ", line)
    assert "trainer.enforce_resource_estimate=false" in line
    assert "\n" not in line
    assert not list((tmp_path / "artifacts").rglob("done.json"))
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["status"].startswith("ExhaustedError: sft would take")
    assert facts["estimate"]["free"] == 21_500_000


def test_the_suggested_setting_does_fit(configured, planned, monkeypatch):
    monkeypatch.setattr(resources, "free_memory_here", lambda: 21_500_000)
    config = configured("recipe=sft_only", "sft.micro_batch_size=4", "sft.batch_size=4")
    with pytest.raises(ExhaustedError, match=r"write sft\.micro_batch_size=(\d)") as caught:
        check(planned(config))
    lowered = re.search(r"write (sft\.micro_batch_size=\d)", str(caught.value))[1]
    config = configured("recipe=sft_only", "sft.batch_size=4", lowered)
    check(planned(config))


def test_where_only_the_heap_s_gaps_may_be_too_much_it_is_a_warning(configured, planned, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("fires_exp"), "propagate", True)
    config = configured("recipe=sft_only", "sft.micro_batch_size=4", "sft.batch_size=4")
    planner = planned(config)
    estimate, sizes = estimate_plan(planner)
    memory = estimate.stages["sft"].memory
    assert memory.gaps == round(0.5 * (memory.activations + memory.vision + memory.logits))
    for more, warns in ((1, True), (memory.gaps + 1, False)):
        caplog.clear()
        check_resources(replace(estimate, free=memory.peak + more), planner.stages, sizes, config)
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
        ahead = json.loads((run("plan_only=true", name="plan") / "run.json").read_text())["estimate"]
        assert not (tmp_path / "artifacts").exists()
        stages = ahead["stages"]
        assert list(stages) == [
            "thoughts",
            "sft",
            "grpo",
            "predictions of zero_shot",
            "predictions of sft",
            "predictions of grpo",
        ]
        assert (stages["sft"]["steps"], stages["sft"]["prompts"]) == (2, 8)  # two steps of four
        assert (stages["grpo"]["prompts"], stages["grpo"]["completion_tokens"]) == (4, 4 * 4 * 12)  # 4 generations of 12
        assert (stages["predictions of sft"]["steps"], stages["predictions of sft"]["prompts"]) == (2, 3)
        folder = run("recipe=sft_only", name="real")
        again = json.loads((run("plan_only=true", name="again") / "run.json").read_text())["estimate"]
    assert len([line for line in (folder / "metrics.jsonl").read_text().splitlines() if "sft/loss" in line]) == 2
    finished = [label for label, stage in again["stages"].items() if stage["finished"]]
    assert finished == ["thoughts", "sft", "predictions of zero_shot", "predictions of sft"]
    assert re.search(r"predictions of sft +finished", caplog.text)
    written = sum(path.stat().st_size for path in (tmp_path / "artifacts" / "sft").rglob("*") if path.is_file())
    assert stages["sft"]["disk"] > written


def encoded(planner, tiny):
    """The prompts of the train split."""
    train = planner.train
    encode = planner.factory.encoder(tiny.processor, train.video_root, train.examples)
    return [encode(example) for example in train.examples]


def test_estimated_prompt_lengths_are_those_of_the_prompts(configured, planned, tiny):
    planner = planned(configured("recipe=sft_only", "dataset.limit.train=9"))
    estimate, _ = estimate_plan(planner)
    lengths = [len(prompt.prompt_ids) for prompt in encoded(planner, tiny)]
    train = estimate.lengths["train"]
    assert (train.mean_prompt, train.longest_prompt) == (pytest.approx(sum(lengths) / 9), max(lengths))


def test_frames_are_counted_without_reading_all_of_them(configured, planned, tiny):
    planner = planned(configured("recipe=sft_only", "dataset.limit.train=9", "frames.max_frames=2", "prompt.max_tokens=4096"))
    estimate, _ = estimate_plan(planner)
    prompts = encoded(planner, tiny)
    assert estimate.lengths["train"].pictures == max(int(prompt.token_types.sum()) for prompt in prompts)
    assert estimate.lengths["train"].longest_prompt == max(len(prompt.prompt_ids) for prompt in prompts)
