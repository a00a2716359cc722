"""WordNet is loaded if installed; the error of a missing one names the command that installs it."""

import stat
import subprocess

import nltk
import pytest
from nltk.corpus.reader.wordnet import WordNetCorpusReader
from nltk.corpus.util import LazyCorpusLoader

from fires_exp.errors import ScoreError
from fires_exp.scores import wordnet as module
from fires_exp.scores.wordnet import load_wordnet, main, nltk_data, set_up_wordnet


@pytest.fixture
def nowhere(monkeypatch):
    """A machine without WordNet."""
    monkeypatch.setattr(nltk.data, "path", [])
    monkeypatch.setattr(module, "wordnet", LazyCorpusLoader("wordnet", WordNetCorpusReader, None))


@pytest.fixture
def debian(monkeypatch):
    """Fake Debian packages, with a file that others may write."""

    def run(*command, folder):
        if command[0] == "apt-get":
            (folder / "wordnet-base_all.deb").touch()
        else:
            (folder / "usr" / "share" / "wordnet").mkdir(parents=True, exist_ok=True)
            (folder / "usr" / "share" / "wordnet" / "data.noun").touch(mode=0o664)

    monkeypatch.setattr(module, "_run", run)
    monkeypatch.setattr(module.shutil, "which", lambda name: name)


def test_the_error_without_wordnet_names_the_command_that_installs_it(nowhere, tmp_path):
    with pytest.raises(ScoreError, match=f"python -m fires_exp.scores.wordnet {nltk_data(tmp_path)}$"):
        load_wordnet(tmp_path)


def test_the_list_of_names_that_debian_lacks_is_added(debian, tmp_path):
    folder = set_up_wordnet(nltk_data(tmp_path))
    names = (folder / "lexnames").read_text().splitlines()
    assert len(names) == 45
    assert [names[number] for number in (0, 2, 3, 28, 29, 43, 44)] == [
        "00\tadj.all\t3",
        "02\tadv.all\t4",
        "03\tnoun.Tops\t1",
        "28\tnoun.time\t1",
        "29\tverb.body\t2",
        "43\tverb.weather\t2",
        "44\tadj.ppl\t3",
    ]
    assert [path.name for path in nltk_data(tmp_path).iterdir()] == ["corpora"], "no temporary folder is left"


def test_installed_files_are_writable_by_their_owner_alone(debian, tmp_path):
    folder = set_up_wordnet(tmp_path)
    for path in (tmp_path, folder.parent, folder, *folder.iterdir()):
        assert not path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def test_installing_twice_does_nothing_more(debian, tmp_path, monkeypatch):
    folder = set_up_wordnet(tmp_path)
    monkeypatch.setattr(module, "_run", lambda *command, folder: pytest.fail("downloaded again"))
    assert set_up_wordnet(tmp_path) == folder


def test_without_packages_and_network_the_command_fails_in_one_line_with_both_reasons(monkeypatch, tmp_path, capsys):
    def refuse(command, **settings):
        raise subprocess.CalledProcessError(100, command, stderr="W: a warning\nE: Unable to locate package wordnet-base\n")

    monkeypatch.setattr(module.subprocess, "run", refuse)
    monkeypatch.setattr(module.shutil, "which", lambda name: name)
    monkeypatch.setattr(nltk, "download", lambda *names, **settings: False)
    assert main([str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "apt-get: E: Unable to locate package wordnet-base; NLTK's server can't be reached" in line
    assert not (tmp_path / "corpora" / "wordnet").exists()
