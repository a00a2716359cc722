"""Whole runs of the tiny backbone on the shipped sample, in this process."""

import json
import logging
import re
import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module

from fires_exp.config.load import load_config, register_schema, write_yaml
from fires_exp.errors import BackboneError, CollapseError, ConfigError, DataError
from fires_exp.pipeline.planner import Planner
from fires_exp.pipeline.run import run_recipe
from fires_exp.pipeline.run_folder import RunFolder
from fires_exp.pipeline.stages.epitome import EpitomeStage

CONF = Path(__file__).resolve().parents[2] / "conf"
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
GENERALIZE = [name for name in EXPERIMENTS if name.startswith("emotyda_esc")]
BASELINES = [name for name in EXPERIMENTS if "recipe: baseline" in (CONF / "experiment" / f"{name}.yaml").read_text()]
SMALL = [
    "scale=smoke", "seq2seq=tiny", "frames.max_frames=2",
    "dataset.limit.train=8", "dataset.limit.val=2", "dataset.limit.test=3",
    "trainer.progress=false",
]  # fmt: skip


def composed(*overrides):
    register_schema()
    with initialize_config_module("fires_exp.conf", version_base="1.3"):
        return load_config(compose("config", overrides=[*SMALL, *overrides]))


@pytest.fixture(scope="module")
def scorer(tmp_path_factory, cache):
    """The folder of a scorer that all runs here share."""
    place = tmp_path_factory.mktemp("scorer")
    config = composed(f"paths.artifacts={place}", f"paths.cache={cache}")
    return EpitomeStage.of(Planner(config, RunFolder(place, config))).get().folder


@pytest.fixture
def configured(tmp_path, cache, scorer):
    """A configuration from overrides, with artifacts below tmp_path."""
    places = [f"paths.artifacts={tmp_path / 'artifacts'}", f"paths.cache={cache}", f"reward.support_skill.scorer={scorer}"]
    return lambda *overrides: composed(*places, *overrides)


@pytest.fixture
def run(tmp_path, configured):
    """Run overrides in a folder of their own and give the folder back."""

    def start(*overrides, name="run"):
        folder = tmp_path / name
        folder.mkdir()
        config = configured(*overrides)
        write_yaml(config, folder / "resolved.yaml")
        run_recipe(config, folder)
        return folder

    return start


def read_json(path):
    return json.loads(path.read_text())


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def stages_of(folder):
    return [(stage["stage"], stage["reused"]) for stage in read_json(folder / "run.json")["stages"]]


def test_the_default_recipe_leaves_a_whole_run_folder(run, capsys):
    folder = run()
    record = read_json(folder / "run.json")
    assert record["status"] == "finished"
    assert record["versions"]["torch"]
    assert record["peak_memory_bytes"] > 1e8
    assert [stage for stage, _ in stages_of(folder)] == ["thoughts", "sft", "grpo", "predictions", "predictions", "predictions"]
    table = read_json(folder / "metrics.json")
    assert list(table["policies"]) == ["zero_shot", "sft", "grpo"]
    assert table["teacher"] == "rules"
    steps = read_lines(folder / "metrics.jsonl")
    assert [(row["stage"], row["step"]) for row in steps] == [("sft", 0), ("sft", 1), ("grpo", 0), ("grpo", 1)]
    assert "reward/total" in steps[-1]
    assert len(read_lines(folder / "predictions" / "grpo.jsonl")) == 3
    assert len(read_lines(folder / "completions.jsonl")) == 2 * 2 * 4
    assert "<html" in (folder / "report.html").read_text()[:200]
    assert "BLEU-2" in capsys.readouterr().out


def test_a_sweep_over_beta_trains_sft_once(run):
    first = run("grpo.beta=0.0", name="first")
    second = run("grpo.beta=0.04", name="second")
    assert ("sft", False) in stages_of(first)
    assert stages_of(second)[:3] == [("thoughts", True), ("sft", True), ("grpo", False)]
    curves = [[row for row in read_lines(folder / "metrics.jsonl") if row["stage"] == "sft"] for folder in (first, second)]
    assert curves[0] == curves[1]


def test_the_same_run_again_reuses_everything_and_says_the_same(run):
    first, second = run(name="first"), run(name="second")
    assert all(reused for _, reused in stages_of(second))
    assert read_json(first / "metrics.json") == read_json(second / "metrics.json")


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(run, tmp_path):
    def numbers(folder):
        rows = read_lines(folder / "metrics.jsonl")
        return [{name: value for name, value in row.items() if not name.startswith("speed/")} for row in rows]

    first = run(f"paths.artifacts={tmp_path / 'one'}", name="first")
    again = run(f"paths.artifacts={tmp_path / 'two'}", name="again")
    other = run("seed=43", name="other")
    assert numbers(first) == numbers(again)
    assert numbers(first) != numbers(other)


@pytest.mark.parametrize("experiment", [name for name in EXPERIMENTS if name not in (*GENERALIZE, *BASELINES)])
def test_every_experiment_runs_two_steps(run, experiment):
    folder = run(f"+experiment={experiment}")
    record = read_json(folder / "run.json")
    assert record["name"] == experiment
    assert record["status"] == "finished"


@pytest.mark.parametrize("experiment", [name for name in GENERALIZE if "gpt" not in name])
def test_generalization_is_tested_on_the_other_dataset(run, real_data, experiment):
    folder = run(f"+experiment={experiment}", f"test_dataset.root={real_data / 'emotyda'}", "test_dataset.limit.test=3")
    table = read_json(folder / "metrics.json")
    assert table["dataset"] == "emotyda_esc"
    assert table["instances"] == 3


def test_another_choice_of_frames_is_another_run_of_the_same_recipe(run):
    run("recipe=zero_shot", "frames=keyframes", "frames.max_frames=2", name="keyframes")
    folder = run("recipe=zero_shot", "frames=salient", "frames.max_frames=2")
    assert ("predictions", False) in stages_of(folder)
    assert read_json(folder / "metrics.json")["policies"]["zero_shot"][0]["count"] == 3


def test_real_mesc_text_goes_the_whole_way(run, real_data):
    folder = run("dataset=mesc", f"dataset.root={real_data / 'mesc'}")
    assert read_json(folder / "metrics.json")["dataset"] == "mesc"


def test_a_run_that_stops_shows_nothing_of_an_earlier_one_in_its_folder(run, configured, tmp_path):
    folder = run("recipe=zero_shot")
    assert (folder / "metrics.json").is_file()
    with pytest.raises(DataError):
        run_recipe(configured("prompt.max_tokens=64"), folder)
    assert not [name for name in ("metrics.json", "predictions") if (folder / name).exists()]
    assert "prompt.max_tokens" in (folder / "report.html").read_text()


def test_a_run_without_a_scorer_trains_the_sample_scorer_first_and_says_whose_numbers_these_are(run):
    folder = run("reward.support_skill.scorer=null")
    assert stages_of(folder)[0] == ("epitome", False)
    assert read_json(folder / "metrics.json")["scorer"] == "sample scorer (tiny)"
    (row,) = [row for row in read_json(folder / "metrics.json")["policies"]["grpo"] if row["name"] == "DIFF-EPITOME"]
    assert row["version"].startswith("sample scorer (tiny)")
    assert "sample scorer" in (folder / "report.html").read_text()
    (_, _, *grpo) = read_lines(folder / "metrics.jsonl")
    assert all("reward/support_skill" in row for row in grpo)


def test_a_run_that_neither_rewards_nor_measures_support_skill_needs_no_scorer(run):
    folder = run("reward=wo_support_skill", "reward.support_skill.scorer=null", "metrics.include=[bleu_2]")
    assert "epitome" not in [stage for stage, _ in stages_of(folder)]
    assert read_json(folder / "metrics.json")["scorer"] is None


def test_another_scorer_is_another_reward_and_without_the_reward_it_is_not(run, tmp_path, scorer):
    first = run("reward.support_skill.scorer=null", name="first")
    second = run("reward.support_skill.scorer=null", "seed=42", "epitome.batch_size=8", name="second")
    assert stages_of(second)[:4] == [("epitome", False), ("thoughts", True), ("sft", True), ("grpo", False)]
    assert ("grpo", False) in stages_of(first)
    assert ("grpo", False) in stages_of(run("reward=wo_support_skill", name="third"))
    fourth = run("reward=wo_support_skill", "reward.support_skill.scorer=null", name="fourth")
    assert ("grpo", True) in stages_of(fourth)


def test_a_scorer_that_was_changed_stops_the_run_before_anything_is_made(run, tmp_path, scorer):
    broken = tmp_path / "broken"
    shutil.copytree(scorer, broken)
    (broken / "trunk.safetensors").write_bytes(b"")
    with pytest.raises(BackboneError, match=r"trunk\.safetensors"):
        run(f"reward.support_skill.scorer={broken}")
    assert not (tmp_path / "artifacts").exists()


def test_training_scorers_alone_prints_their_table_and_leaves_pictures(run, capsys):
    folder = run("recipe=train_epitome")
    assert "sample scorer (tiny)" in capsys.readouterr().out
    assert [stage for stage, _ in stages_of(folder)] == ["epitome"]
    assert (folder / "epitome_confusion.png").is_file()


def test_a_dataset_without_a_train_split_is_refused_in_one_line(run, tmp_path):
    line = {
        "id": "c",
        "split": "test",
        "turns": [{"speaker": "seeker", "text": "Hi."}, {"speaker": "supporter", "text": "Hello."}],
    }
    (tmp_path / "own.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(ConfigError, match="no train split"):
        run("dataset=jsonl", f"dataset.root={tmp_path / 'own.jsonl'}")


def test_a_prompt_that_cannot_fit_stops_the_run_before_training(run):
    with pytest.raises(DataError, match=r"prompt\.max_tokens=64"):
        run("prompt.max_tokens=64")


def test_bad_rows_that_are_skipped_are_listed(run, tmp_path):
    turns = [{"speaker": "seeker", "text": "Hi, I cannot sleep."}, {"speaker": "supporter", "text": "Since when?"}]
    lines = [
        json.dumps({"id": f"c{place}", "split": split, "turns": turns})
        for place, split in enumerate(["train"] * 4 + ["test"] * 2)
    ]
    (tmp_path / "own.jsonl").write_text("\n".join([*lines, "{broken"]) + "\n")
    folder = run("dataset=jsonl", f"dataset.root={tmp_path / 'own.jsonl'}", "dataset.on_bad_row=skip")
    (row,) = read_lines(folder / "bad_rows.jsonl")
    assert row["line"] == 7


def test_pictures_matter_to_a_run_and_it_says_so(run, caplog):
    logging.getLogger("fires_exp").propagate = True
    with caplog.at_level(logging.INFO, logger="fires_exp"):
        run("recipe=sft_only", "frames.max_frames=1")
    (line,) = [record.message for record in caplog.records if record.message.startswith("frame sensitivity")]
    assert "NO EFFECT" not in line
    assert "nats per token" in line


def test_validation_loss_is_logged_where_it_is_asked_for(run):
    folder = run("recipe=sft_only", "sft.validate_every_steps=1")
    assert [row["sft/val_loss"] for row in read_lines(folder / "metrics.jsonl") if "sft/val_loss" in row]


@pytest.mark.parametrize("logger", ["tensorboard", "wandb"])
def test_loggers_get_curves_and_completions(run, logger, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    folder = run(f"logger={logger}")
    files = [path for path in (folder / "logs").rglob("*") if path.is_file()]
    if logger == "tensorboard":
        assert len([path for path in files if path.name.startswith("events.")]) == 3
    else:
        assert len([path for path in files if path.suffix == ".wandb"]) == 3
        assert [path for path in files if path.name.endswith(".table.json")]


def test_wandb_online_without_a_key_is_refused(run, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="WANDB_API_KEY"):
        run("logger=wandb_online", "recipe=sft_only")


# words_to_start is at most 1 as soon as responses are no longer than those of the first two steps were
LONG_GRPO = [
    "recipe.stages=[synthesize,sft,grpo]",
    "recipe.policies=[]",
    "aspects=no_thought",
    "grpo.epochs=9",
    "grpo.max_steps=10",
]
RULE = ["health.window_steps=2", "health.stop.patience_steps=1", "health.stop.words_to_start=1.0"]


def collapse_of(run, *overrides, name):
    with pytest.raises(CollapseError) as caught:
        run(*LONG_GRPO, *overrides, name=name)
    return caught.value


def adapter_of(artifacts):
    (facts,) = (artifacts / "grpo").glob("*/facts.json")
    return read_json(facts)["adapter_sha256"]


def test_a_stopped_run_says_why_keeps_what_was_good_and_goes_on_when_the_rule_is_eased(run, tmp_path):
    error = collapse_of(run, *RULE, name="stopped")
    message = str(error)
    found = re.search(r"health/words_to_start was 1 or less for one step, (0\.\d+|1) at step (\d+); ", message)
    assert float(found[1]) <= 1
    step = int(found[2])
    assert step > 2
    assert f"the checkpoint of step {step - 1}, before the sign, is kept in {error.folder}" in message
    assert "relax health.stop.words_to_start" in message
    folder = tmp_path / "stopped"
    assert read_json(folder / "run.json")["status"] == f"CollapseError: {message}"
    page = (folder / "report.html").read_text()
    assert "a sign of reward hacking: health/words_to_start was 1 or less" in page
    assert "Response length ratio" in page
    assert [row["step"] for row in read_lines(folder / "metrics.jsonl") if row["stage"] == "grpo"] == list(range(step))
    assert len(read_lines(folder / "completions.jsonl")) == step * 2 * 4
    before = {path.name: path.read_bytes() for path in error.folder.iterdir() if path.is_file()}

    assert str(collapse_of(run, *RULE, name="again")) == message
    assert {path.name: path.read_bytes() for path in error.folder.iterdir() if path.is_file()} == before

    run(*LONG_GRPO, "health.window_steps=2", name="eased")
    run(*LONG_GRPO, "health.window_steps=2", f"paths.artifacts={tmp_path / 'other'}", name="never_stopped")
    assert adapter_of(tmp_path / "artifacts") == adapter_of(tmp_path / "other")


def test_a_finished_stage_that_the_rule_would_have_stopped_is_not_reused_in_silence(run):
    run(*LONG_GRPO, "health.window_steps=2", name="unwatched")
    message = str(collapse_of(run, *RULE, name="watched"))
    assert "all 10 steps" in message
    assert "relax health.stop.words_to_start" in message


def test_a_sign_from_the_first_step_leaves_no_checkpoint_and_starts_again(run):
    always = ["health.stop.patience_steps=3", "health.stop.one_response=0.01"]
    message = str(collapse_of(run, *always, name="stopped"))
    assert "for 3 steps in a row" in message
    assert "no checkpoint is from before the sign" in message
    run(*LONG_GRPO, name="eased")
