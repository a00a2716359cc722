"""Artifacts: keyed by what they depend on, reused, gone on with, never half."""

import functools
import json
import threading

import pytest

from fires_exp.errors import StageError
from fires_exp.storage import artifacts

make = functools.partial(artifacts.get_or_build, on_all_ranks=False)


def writer(text, log=None):
    def build(folder):
        if log is not None:
            log.append(sorted(path.name for path in folder.iterdir()))
        (folder / "out.txt").write_text(text)

    return build


def test_the_same_dependencies_are_made_once(tmp_path):
    log = []
    first = make(tmp_path, "sft", {"lr": 1}, writer("a", log))
    second = make(tmp_path, "sft", {"lr": 1}, writer("b", log))
    assert (first.reused, second.reused) == (False, True)
    assert first.folder == second.folder
    assert (second.folder / "out.txt").read_text() == "a"
    assert len(log) == 1
    assert json.loads((first.folder / "depends_on.json").read_text()) == {"lr": 1}


def test_other_dependencies_or_another_stage_have_a_folder_of_their_own(tmp_path):
    folders = {make(tmp_path, stage, {"lr": lr}, writer("a")).folder for stage in ("sft", "grpo") for lr in (1, 2)}
    assert len(folders) == 4


def test_an_interrupted_stage_finds_what_it_left(tmp_path):
    def dies(folder):
        (folder / "last.ckpt").write_text("half way")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, "sft", {"lr": 1}, dies)
    log = []
    assert not make(tmp_path, "sft", {"lr": 1}, writer("a", log)).reused
    assert "last.ckpt" in log[0]


@pytest.mark.parametrize("damage", [lambda path: path.write_text("x"), lambda path: path.unlink()])
def test_a_changed_or_deleted_file_is_noticed_and_named(tmp_path, damage):
    made = make(tmp_path, "sft", {"lr": 1}, writer("a"))
    damage(made.folder / "out.txt")
    with pytest.raises(StageError, match=r"out\.txt was changed or deleted"):
        make(tmp_path, "sft", {"lr": 1}, writer("a"))


def test_two_runs_at_the_same_time_build_once(tmp_path):
    built = []

    def slow(folder):
        built.append(folder)
        threading.Event().wait(0.3)
        (folder / "out.txt").write_text("a")

    results = []
    threads = [threading.Thread(target=lambda: results.append(make(tmp_path, "sft", {"lr": 1}, slow))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert sorted(result.reused for result in results) == [False, True, True]
