"""Baselines that are trained: whole runs of tiny models on the sample; test_table_1.py has them on MESC's text."""

import json

import pytest
from hydra import compose, initialize_config_module

from fires_exp.baselines.labels import Label
from fires_exp.config.load import load_config, register_schema, write_yaml
from fires_exp.data.readers.mesc import read_mesc
from fires_exp.data.readers.row_errors import RowProblems
from fires_exp.data.records import support_examples
from fires_exp.errors import BackboneError, DataError
from fires_exp.pipeline import chat_models
from fires_exp.pipeline.run import run_recipe
from fires_exp.training.seq2seq import Seq2SeqModule

SMALL = [
    "scale=smoke", "seq2seq=tiny", "frames.max_frames=2", "frames.max_frames_per_turn=1",
    "metrics.include=[bleu_2]", "dataset.limit.train=8", "dataset.limit.val=2",
    "dataset.limit.test=3", "sft.batch_size=4", "trainer.progress=false",
]  # fmt: skip
TRAINED = ("smes", "smes_qwen", "blenderbot_joint", "bbmhr")


@pytest.fixture
def start(tmp_path, cache):
    """Run an experiment in a folder of its own and give the folder back."""
    register_schema()

    def go(experiment, *overrides, name="run", artifacts="artifacts"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        places = [f"paths.artifacts={tmp_path / artifacts}", f"paths.cache={cache}"]
        with initialize_config_module("fires_exp.conf", version_base="1.3"):
            config = load_config(compose("config", overrides=[f"+experiment={experiment}", *SMALL, *places, *overrides]))
        write_yaml(config, folder / "resolved.yaml")
        run_recipe(config, folder)
        return folder

    return go


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def stages(folder):
    return [(stage["stage"], stage["reused"]) for stage in json.loads((folder / "run.json").read_text())["stages"]]


def weights(artifacts):
    (path,) = artifacts.glob("train_baseline/*/model/model.safetensors")
    return path.read_bytes()


@pytest.mark.parametrize("experiment", TRAINED)
def test_every_baseline_trains_answers_and_is_scored_like_any_policy(start, experiment):
    folder = start(experiment)
    rows = lines(folder / "predictions" / "trained_baseline.jsonl")
    assert len(rows) == 3
    assert all(row["context"] and row["reference_response"] and row["thought"] == "" for row in rows)
    assert all(set(row["said"]) <= {"seeker emotion", "strategy", "supporter emotion"} for row in rows)
    table = json.loads((folder / "metrics.json").read_text())
    assert table["policies"]["trained_baseline"][0]["count"] == 3
    assert (table["name"], table["backbone"]) == (experiment, "tiny")
    assert table["baseline"] == experiment.removesuffix("_qwen")
    curve = lines(folder / "metrics.jsonl")
    assert [(row["stage"], row["step"]) for row in curve] == [("train_baseline", 0), ("train_baseline", 1)]
    assert all(row["sft/loss"] > 0 for row in curve)
    page = (folder / "report.html").read_text()
    assert "left out" not in page
    assert f"<dt>baseline</dt><dd>{table['baseline']}</dd>" in page
    hinted = [("hints", False)]
    expected = [*hinted, ("train_baseline", False), *hinted, ("predictions", False)]
    if experiment == "blenderbot_joint":
        expected = [("train_baseline", False), ("predictions", False)]
    assert stages(folder) == expected


@pytest.mark.parametrize(("experiment", "said"), [("smes", 3), ("blenderbot_joint", 1), ("bbmhr", 0)])
def test_a_baseline_that_learned_its_instances_by_heart_writes_them(start, experiment, said):
    by_heart = [
        "dataset.limit.train=3", "predict.split=train", "sft.epochs=999", "sft.max_steps=120", "sft.micro_batch_size=4",
        "sft.optimizer.learning_rate=1e-2", "sft.optimizer.warmup_ratio=0.1", "sft.checkpoint_every_steps=999",
        "seq2seq.max_target_tokens=100", "predict.decoding.max_new_tokens=100", "frames.max_frames=1",
    ]  # fmt: skip
    rows = lines(start(experiment, *by_heart) / "predictions" / "trained_baseline.jsonl")
    assert [row["finish_reason"] for row in rows] == ["stop"] * 3
    assert all(row["well_formed"] and len(row["said"]) == said for row in rows)
    assert sum(row["response"] == row["reference_response"] for row in rows) >= 2


def test_all_of_mesc_has_the_labels_that_baselines_learn(real_data):
    conversations = read_mesc(real_data / "mesc", corpus="mesc", video_pattern="{season}{episode}", problems=RowProblems("error"))
    examples = [example for conversation in conversations for example in support_examples(conversation)]
    assert len(examples) == 4620
    assert [sum(not label.of(example) for example in examples) for label in Label] == [0, 0, 0]


def test_cues_are_of_seeker_turns_with_frames_and_advice_stands_after_the_last_turn(start, tmp_path):
    start("smes", name="smes")
    start("bbmhr", name="bbmhr")
    for path in (tmp_path / "artifacts" / "hints").glob("*/hints.jsonl"):
        about = json.loads((path.parent / "depends_on.json").read_text())["inputs"]["hint"]["about"]
        for row in lines(path):
            # the sample's turns alternate and end with the seeker, and all have clips
            seekers = [index % 2 == (len(row["hints"]) - 1) % 2 for index in range(len(row["hints"]))]
            last = [index == len(row["hints"]) - 1 for index in range(len(row["hints"]))]
            assert [bool(hint) for hint in row["hints"]] == (seekers if about == "turn" else last)
    assert len(list((tmp_path / "artifacts" / "hints").iterdir())) >= 4


def test_a_turn_of_many_histories_is_asked_about_once_and_a_killed_stage_asks_what_is_left(start, tmp_path, monkeypatch):
    asked, sample = [], chat_models.sample_completions

    def counting(policy, prompts, *rest):
        if len(asked) == 4:
            raise KeyboardInterrupt
        asked.append(len(prompts))
        return sample(policy, prompts, *rest)

    monkeypatch.setattr(chat_models, "sample_completions", counting)
    with pytest.raises(KeyboardInterrupt):
        start("smes", "hints.batch_size=1")
    assert not list((tmp_path / "artifacts" / "hints").glob("*/done.json"))
    monkeypatch.setattr(chat_models, "sample_completions", lambda *all: asked.append(len(all[1])) or sample(*all))
    start("smes", "hints.batch_size=1")
    told = [row for path in (tmp_path / "artifacts" / "hints").glob("*/hints.jsonl") for row in lines(path)]
    (response_file,) = (tmp_path / "artifacts" / "answers").glob("backbone-tiny.jsonl")
    assert len(asked) == len(lines(response_file)) < sum(bool(hint) for row in told for hint in row["hints"])
    start("smes", "hints.batch_size=1", "dataset.limit.test=2", name="fewer")
    assert len(asked) == len(lines(response_file))


def test_a_baseline_that_was_interrupted_ends_with_the_weights_of_one_that_was_not(start, tmp_path, monkeypatch):
    settings = ["sft.epochs=9", "sft.max_steps=6", "sft.checkpoint_every_steps=2"]
    start("blenderbot_joint", *settings, name="whole", artifacts="whole")
    step = Seq2SeqModule.training_step

    def interrupted(self, batch, batch_idx):
        if self.steps_done == 3:
            raise KeyboardInterrupt
        step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Seq2SeqModule, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            start("blenderbot_joint", *settings, name="cut", artifacts="cut")
    assert list((tmp_path / "cut").glob("train_baseline/*/checkpoints/step-*.ckpt"))
    start("blenderbot_joint", *settings, name="again", artifacts="cut")
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")
    assert not list((tmp_path / "cut").glob("train_baseline/*/checkpoints/step-*.ckpt"))
    curves = [lines(tmp_path / name / "metrics.jsonl") for name in ("whole", "again")]
    assert curves[0] == curves[1]
    assert [row["step"] for row in curves[0]] == list(range(6))


def test_another_seed_is_another_baseline_and_the_same_run_again_reuses_everything(start, tmp_path):
    first = start("blenderbot_joint", name="first", artifacts="a")
    again = start("blenderbot_joint", name="again", artifacts="a")
    assert stages(again) == [("train_baseline", True), ("predictions", True)]
    assert (first / "metrics.json").read_text() == (again / "metrics.json").read_text()
    start("blenderbot_joint", "seed=43", name="other", artifacts="b")
    assert weights(tmp_path / "a") != weights(tmp_path / "b")


def test_validation_loss_is_logged_where_it_is_asked_for(start):
    for experiment in ("bbmhr", "smes_qwen"):
        folder = start(experiment, "sft.validate_every_steps=1", name=experiment)
        assert len([row for row in lines(folder / "metrics.jsonl") if "sft/val_loss" in row]) == 2


def test_recomputed_activations_train_the_same(start, tmp_path):
    start("blenderbot_joint", name="plain", artifacts="plain")
    start("blenderbot_joint", "sft.gradient_checkpointing=true", name="saved", artifacts="saved")
    losses = [[row["sft/loss"] for row in lines(tmp_path / name / "metrics.jsonl")] for name in ("plain", "saved")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_another_model_may_be_asked_for_hints(start, tmp_path):
    start("smes_qwen", "+backbone@hints.backbone=tiny", "hints.backbone.name=eyes", "hints.batch_size=2")
    assert (tmp_path / "artifacts" / "answers" / "backbone-eyes.jsonl").is_file()


def test_without_frames_nobody_is_asked_and_smes_is_trained_by_text(start, tmp_path):
    folder = start("smes", "frames=none")
    assert not list((tmp_path / "artifacts").glob("answers/*.jsonl"))
    told = [row for path in (tmp_path / "artifacts" / "hints").glob("*/hints.jsonl") for row in lines(path)]
    assert told
    assert not any(hint for row in told for hint in row["hints"])
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"


def test_data_without_labels_are_one_line_before_anything_is_made(start, tmp_path):
    turns = [{"speaker": "seeker", "text": "I cannot sleep."}, {"speaker": "supporter", "text": "Since when?"}]
    rows = [{"id": f"c{place}", "split": split, "turns": turns} for place, split in enumerate(["train"] * 4 + ["test"])]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = ["dataset=jsonl", f"dataset.root={tmp_path / 'own.jsonl'}"]
    with pytest.raises(DataError, match=r"c0-1 .*strategy \(4 of 4 instances of dataset=jsonl"):
        start("blenderbot_joint", *own)
    with pytest.raises(DataError, match=r"no seeker emotion .* trained_baseline=smes .* dataset=mesc or dataset=sample"):
        start("smes", *own)
    assert not (tmp_path / "artifacts").exists()
    assert len(lines(start("bbmhr", *own) / "predictions" / "trained_baseline.jsonl")) == 1  # it learns the response alone


def test_a_model_that_cannot_be_had_stops_the_run_before_hints_are_asked_for(start, tmp_path):
    with pytest.raises(BackboneError, match=r"config\.json"):
        start("smes", "seq2seq.source=hub", f"seq2seq.path={tmp_path}")
    assert not (tmp_path / "artifacts").exists()


def test_a_last_turn_that_does_not_fit_is_one_line(start):
    with pytest.raises(DataError, match=r"hints\.max_prompt_tokens=64"):
        start("smes", "hints.max_prompt_tokens=64")
    with pytest.raises(DataError, match=r"\d+ tokens.* prompt\.max_tokens=64"):
        start("smes_qwen", "prompt.max_tokens=64", "frames=none")
