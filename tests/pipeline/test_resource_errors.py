"""Memory or disk that is used up in the middle of a run, numbers that are none, groups that teach nothing."""

import errno
import json
import logging
import math
import resource
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from hydra import compose, initialize_config_module

from fires_exp.config.load import load_config, register_schema, write_yaml
from fires_exp.errors import ExhaustedError, TrainingError
from fires_exp.grpo.module import GrpoModule
from fires_exp.grpo.rewards import Reward
from fires_exp.pipeline.resource_errors import resource_errors
from fires_exp.pipeline.run import run_recipe
from fires_exp.pipeline.stages import predictions
from fires_exp.training.fit import JsonLinesLogger

SMALL = [
    "+experiment=smoke", "aspects=no_thought", "reward=wo_support_skill", "frames=none",
    "metrics.include=[rouge_l]", "dataset.limit.train=8", "dataset.limit.test=4", "trainer.progress=false",
    "predict.batch_size=2", "sft.max_steps=2", "sft.checkpoint_every_steps=1", "grpo.epochs=9", "grpo.max_steps=4",
    "grpo.checkpoint_every_steps=1",
]  # fmt: skip


@contextmanager
def no_file_larger_than(count):
    """What a full disk does to a write, of torch's and safetensors' own code too: the system refuses it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def run(tmp_path, cache):
    """Run overrides in a folder of their own and give the folder back."""
    register_schema()

    def start(*overrides, name="run", largest_file=resource.RLIM_INFINITY):
        places = [f"paths.artifacts={tmp_path / 'artifacts'}", f"paths.cache={cache}"]
        with initialize_config_module("fires_exp.conf", version_base="1.3"):
            config = load_config(compose("config", overrides=[*SMALL, *places, *overrides]))
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        write_yaml(config, folder / "resolved.yaml")
        with no_file_larger_than(largest_file):
            run_recipe(config, folder)
        return folder

    return start


def status(folder):
    return json.loads((folder / "run.json").read_text())["status"]


def no_room(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device", "/full/file")


SFT_ONLY = ["recipe.stages=[synthesize,sft]", "recipe.policies=[]"]
GRPO_ONLY = ["recipe.stages=[grpo]", "recipe.policies=[]"]


def test_a_disk_that_cannot_hold_a_checkpoint_is_one_line_and_the_run_goes_on_when_it_can(run, tmp_path):
    with pytest.raises(ExhaustedError) as caught:
        run(*SFT_ONLY, largest_file=20_000)
    line = str(caught.value)
    assert line.startswith("the disk is full in stage sft")
    assert line.endswith("make room, or write another paths.artifacts and paths.cache, and start the same command again")
    assert "\n" not in line
    assert status(tmp_path / "run") == f"ExhaustedError: {line}"
    (folder,) = (tmp_path / "artifacts" / "sft").glob("*/")
    assert not list(folder.rglob("*.ckpt")), "half a checkpoint takes room for nothing"
    assert status(run(*SFT_ONLY, name="again")) == "finished"


def test_a_disk_that_is_full_when_the_adapter_is_written_keeps_the_last_checkpoint(run, tmp_path, monkeypatch):
    monkeypatch.setattr("fires_exp.training.fit.save_adapter", no_room)
    with pytest.raises(ExhaustedError, match=r"^the disk is full in stage sft \(/full/file\); "):
        run(*SFT_ONLY)
    *_, checkpoint = sorted((tmp_path / "artifacts" / "sft").glob("*/checkpoints/*.ckpt"))
    assert torch.load(checkpoint, weights_only=True)["steps_done"] == 2
    monkeypatch.undo()
    assert status(run(*SFT_ONLY, name="again")) == "finished"


def test_a_disk_that_fills_while_a_step_is_logged_leaves_half_a_line_that_a_restart_takes_out(run, tmp_path, monkeypatch):
    log_metrics = JsonLinesLogger.log_metrics

    def half_a_line(self, metrics, step=None):
        if step == 2:
            with self.path.open("a") as file:
                file.write('{"step": 2, "grpo/lo')
            no_room()
        log_metrics(self, metrics, step)

    monkeypatch.setattr(JsonLinesLogger, "log_metrics", half_a_line)
    with pytest.raises(ExhaustedError, match=r"^the disk is full in stage grpo"):
        run(*GRPO_ONLY, "grpo.checkpoint_every_steps=2")
    (rows,) = (tmp_path / "artifacts" / "grpo").glob("*/metrics.jsonl")
    assert rows.read_text().endswith('"grpo/lo')
    with (rows.parent / "completions.jsonl").open("a") as file:
        file.write('{"step": 2, "compl')
    monkeypatch.undo()
    folder = run(*GRPO_ONLY, "grpo.checkpoint_every_steps=2", name="again")
    assert [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()] == [0, 1, 2, 3]
    steps = [json.loads(line)["step"] for line in (folder / "completions.jsonl").read_text().split("\n")[:-1]]
    assert steps == sorted(steps)
    assert set(steps) <= {0, 1, 2, 3}


def test_a_disk_that_fills_while_instances_are_answered_costs_the_batch_under_way(run, tmp_path, monkeypatch):
    zero_shot = ["recipe.stages=[evaluate]", "recipe.policies=[zero_shot]"]
    whole = run(*zero_shot, f"paths.artifacts={tmp_path / 'other'}", name="whole")
    prediction_row, left = predictions.prediction_row, iter(range(3))

    def three_rows(*args):
        if next(left, None) is None:
            no_room()
        return prediction_row(*args)

    monkeypatch.setattr(predictions, "prediction_row", three_rows)
    with pytest.raises(ExhaustedError, match=r"^the disk is full in stage predictions"):
        run(*zero_shot)
    monkeypatch.undo()
    (answers,) = (tmp_path / "artifacts" / "predictions").glob("*/predictions.jsonl")
    assert len(answers.read_text().split("\n")[:-1]) == 2
    rows = [json.loads(line) for line in (whole / "predictions" / "zero_shot.jsonl").read_text().split("\n")[:-1]]
    answers.write_text("".join(json.dumps(row | {"context": "\u2028"}, ensure_ascii=False) + "\n" for row in rows[:3]) + "{")
    again = run(*zero_shot, name="again")
    found = [json.loads(line) for line in (again / "predictions" / "zero_shot.jsonl").read_text().split("\n")[:-1]]
    assert [row["context"] == "\u2028" for row in found] == [True, True, False, False], "a whole batch is two"
    assert [row["response"] for row in found] == [row["response"] for row in rows]


def test_a_disk_that_cannot_even_hold_the_record_keeps_that_of_the_start(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"status": "running"}')
    with pytest.raises(ExhaustedError, match=r"^the disk is full; "):
        run(*SFT_ONLY, largest_file=100)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["resolved.yaml", "run.json"]
    assert status(tmp_path / "run") == "running"


MEMORY = {
    "torch's allocator": lambda: torch.empty(10**15),
    "a GPU": lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has …")),
    "Python": lambda: (_ for _ in ()).throw(MemoryError()),
    "the system": lambda: (_ for _ in ()).throw(OSError(errno.ENOMEM, "Cannot allocate memory")),
}


@pytest.mark.parametrize("fault", MEMORY.values(), ids=MEMORY)
def test_memory_that_is_used_up_is_one_line_that_says_what_to_lower_and_to_what(run, monkeypatch, fault):
    monkeypatch.setattr("fires_exp.training.sft.completion_logprobs", lambda *args, **kwargs: fault())
    with pytest.raises(ExhaustedError) as caught:
        run(*SFT_ONLY, "sft.micro_batch_size=4", "frames=keyframes", "frames.max_frames=2")
    line = str(caught.value)
    assert line.startswith("out of memory in stage sft")
    assert "; write sft.micro_batch_size=2 (now 4), or sft.gradient_checkpointing=true (now false), or " in line
    assert "frames.max_frames=1 (now 2)" in line
    assert "\n" not in line


def test_what_to_lower_is_the_stage_s_own_and_how_much_was_asked_for_is_told(run, monkeypatch):
    monkeypatch.setattr("fires_exp.grpo.rollouts.sample_completions", lambda *args: torch.empty(10**15))
    with pytest.raises(ExhaustedError) as caught:
        run(*GRPO_ONLY, "grpo.micro_batch_size=1", "grpo.batch_size=2", "grpo.gradient_checkpointing=true")
    line = str(caught.value)
    assert line.startswith("out of memory in stage grpo")
    assert "4000000000000000 bytes" in line
    assert "; write grpo.batch_size=1 (now 2), or " in line
    assert "micro_batch_size" not in line


def test_an_error_of_another_kind_stays_what_it_was():
    for error in (RuntimeError("shape mismatch"), OSError(errno.EACCES, "Permission denied"), ValueError("out")):
        with pytest.raises(type(error), match=str(error)[-6:]), resource_errors(None, None):
            raise error


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_reward_that_is_no_number_names_its_instance_and_keeps_the_last_good_checkpoint(run, tmp_path, monkeypatch, value):
    score = Reward.score
    calls = iter(range(9))

    def spoiled(self, answers):
        breakdowns = score(self, answers)
        if next(calls) == 2:
            spoiled.instance = answers[-1][1].id
            breakdowns[-1] = replace(breakdowns[-1], total=value)
        return breakdowns

    monkeypatch.setattr(Reward, "score", spoiled)
    with pytest.raises(TrainingError) as caught:
        run(*GRPO_ONLY)
    assert str(caught.value).startswith(
        f"a reward is not finite at step 3 (instances {spoiled.instance}); the last checkpoint is"
    )
    *_, checkpoint = sorted((tmp_path / "artifacts" / "grpo").glob("*/checkpoints/*.ckpt"))
    assert torch.load(checkpoint, weights_only=True)["steps_done"] == 2
    monkeypatch.undo()
    mended = run(*GRPO_ONLY, name="mended")
    never = run(*GRPO_ONLY, f"paths.artifacts={tmp_path / 'other'}", name="never")
    assert [adapter_of(tmp_path / "artifacts"), status(mended)] == [adapter_of(tmp_path / "other"), status(never)]


def adapter_of(artifacts):
    (facts,) = (artifacts / "grpo").glob("*/facts.json")
    return json.loads(facts.read_text())["adapter_sha256"]


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(run, tmp_path, monkeypatch):
    update = GrpoModule._update

    def spoiled(self, *args, **kwargs):
        if self.steps_done == 2:
            with torch.no_grad():
                next(parameter for name, parameter in self.named_parameters() if "lora_B" in name).fill_(math.inf)
        return update(self, *args, **kwargs)

    monkeypatch.setattr(GrpoModule, "_update", spoiled)
    with pytest.raises(TrainingError, match=r"not finite at step 3 \(instances \S+"):
        run(*GRPO_ONLY)
    *_, checkpoint = sorted((tmp_path / "artifacts" / "grpo").glob("*/checkpoints/*.ckpt"))
    kept = torch.load(checkpoint, weights_only=True)
    assert kept["steps_done"] == 2
    assert all(value.isfinite().all() for value in kept["state_dict"].values())


@pytest.mark.parametrize(
    ("overrides", "cut_off"),
    [
        pytest.param(["sampling.max_new_tokens=1", "aspects=flexible"], 1.0, id="every completion cut off"),
        pytest.param(["reward.consistency_weight=0"], None, id="every reward equal"),
    ],
)
def test_a_run_whose_groups_teach_nothing_ends_and_says_so(run, monkeypatch, caplog, overrides, cut_off):
    monkeypatch.setattr(logging.getLogger("fires_exp"), "propagate", True)
    with caplog.at_level(logging.WARNING, "fires_exp"):
        folder = run(*GRPO_ONLY, "grpo.beta=0", *overrides)
    assert status(folder) == "finished"
    assert [record.getMessage() for record in caplog.records if record.name == "fires_exp.training"] == [
        "grpo: no step had a gradient, so nothing was learned: every group's rewards were equal"
    ]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["rollout/tied_group_share"] for row in rows] == [1.0] * 4
    assert cut_off is None or [row["rollout/truncated_share"] for row in rows] == [cut_off] * 4
