"""The stage that trains scorers: it learns, is the same again, and goes on after a kill without training anything twice."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from making import MEANS, SORRY, WHAT, write_support_pairs

from fires_exp.config.load import load_config, register_schema
from fires_exp.errors import ConfigError, DataError
from fires_exp.pipeline.planner import Planner
from fires_exp.pipeline.run_folder import RunFolder
from fires_exp.pipeline.stages import epitome
from fires_exp.pipeline.stages.epitome import EpitomeStage, plan_scorer
from fires_exp.report.tables import skill_table
from fires_exp.scores.epitome.levels import SkillLevels
from fires_exp.scores.epitome.scorer import load_scorer

register_schema()


@pytest.fixture
def planner(tmp_path, cache):
    data = write_support_pairs(tmp_path / "pairs")

    def build(*overrides, artifacts="artifacts"):
        with initialize_config_module(config_module="fires_exp.conf", version_base="1.3"):
            tree = compose(
                config_name="config",
                overrides=[
                    "recipe=train_epitome", "scale=smoke", f"epitome.data={data}", "epitome.epochs=8", "trainer.progress=false",
                    "epitome.optimizer.learning_rate=1e-2", "epitome.batch_size=8", f"paths.artifacts={tmp_path / artifacts}",
                    f"paths.cache={cache}", *overrides,
                ],
            )  # fmt: skip
        config = load_config(tree)
        return Planner(config, RunFolder(Path(tempfile.mkdtemp(dir=tmp_path)), config))

    return build


def train(planner):
    """The artifact of the planner's scorer."""
    return EpitomeStage.of(planner).get()


def test_a_scorer_learns_what_its_pairs_show(planner):
    scorer = load_scorer(train(planner("epitome.epochs=60")).folder, torch.device("cpu"))
    unseen = [
        ("It was day 99 of the move.", " ".join([SORRY] * 2 + [WHAT])),
        ("It was day 98 of the move.", f"{SORRY} {MEANS} {MEANS}"),
    ]
    assert scorer.levels(unseen) == [SkillLevels(2, 0, 1), SkillLevels(1, 2, 0)]
    assert scorer.name == "EPITOME scorer (tiny)"


def test_the_test_table_and_its_pictures_lie_in_the_folder(planner):
    folder = train(planner("epitome.losses=[plain,weighted]")).folder
    table = json.loads((folder / "test.json").read_text())
    assert set(table["mechanisms"]) == set(SkillLevels._fields)
    for row in table["mechanisms"].values():
        assert sum(map(sum, row["confusion"])) == table["test_pairs"]
        assert {tried["loss"] for tried in row["tried"]} == {"plain", "weighted"}
        assert row["chosen"]["val_macro_f1"] == max(tried["val_macro_f1"] for tried in row["tried"])
    for name in ("confusion.png", "calibration.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    assert "interpretations" in skill_table(json.loads((folder / "test.json").read_text()))
    assert not (folder / "tried").exists()
    curves = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {(row["mechanism"], row["loss"]) for row in curves} == {
        (name, loss) for name in SkillLevels._fields for loss in ("plain", "weighted")
    }
    assert sum("epitome/val_macro_f1" in row for row in curves) == 6 * 8


def test_the_same_configuration_gives_the_same_bytes(planner):
    first = train(planner("epitome.epochs=2"))
    second = train(planner("epitome.epochs=2", artifacts="others"))
    assert first.key == second.key
    assert (first.folder / "scorer.json").read_bytes() == (second.folder / "scorer.json").read_bytes()
    assert train(planner("epitome.epochs=2")).reused


class Killed(BaseException):
    pass


def test_a_killed_training_goes_on_in_the_middle_and_ends_with_the_same_scorer(planner, monkeypatch):
    whole = train(planner("epitome.epochs=3", artifacts="whole")).folder
    checkpoint = epitome.MechanismModule.on_save_checkpoint
    saved = []

    def save(module, kept):
        checkpoint(module, kept)
        saved.append(module.steps_done)
        if len(saved) == 5:  # the second mechanism, after its second epoch: this checkpoint is not written any more
            raise Killed

    monkeypatch.setattr(epitome.MechanismModule, "on_save_checkpoint", save)
    with pytest.raises(Killed):
        train(planner("epitome.epochs=3"))
    steps = len(saved)
    again = train(planner("epitome.epochs=3")).folder
    assert len(saved) == steps + 2 + 3  # what was left of the second, and the third
    assert (again / "scorer.json").read_bytes() == (whole / "scorer.json").read_bytes()


def test_a_named_scorer_is_used_and_none_is_trained(planner):
    folder = train(planner("epitome.epochs=1")).folder
    planned = planner(f"reward.support_skill.scorer={folder}", artifacts="none")
    scorer = plan_scorer(planned)
    assert planned.steps == []
    assert scorer.version == scorer.load().version == load_scorer(folder, torch.device("cpu")).version


def test_the_key_sees_the_data_and_the_name_says_which(planner, tmp_path):
    work = planner("epitome.epochs=1")
    first = train(work)
    write_support_pairs(tmp_path / "pairs", posts=23)
    second = train(planner("epitome.epochs=1"))
    assert first.key != second.key


def test_more_frozen_layers_than_there_are_is_one_line(planner):
    with pytest.raises(ConfigError, match=r"epitome\.frozen_layers=9: tiny has 2 layers"):
        train(planner("epitome.frozen_layers=9"))


def test_missing_data_is_one_line(planner):
    work = planner()
    work.config = replace(work.config, epitome=replace(work.config.epitome, data="/nowhere"))
    with pytest.raises(DataError, match=r"epitome\.data=/nowhere "):
        train(work)
