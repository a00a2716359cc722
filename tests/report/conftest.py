"""The synthetic run folder, fresh for each test; a browser and a study, one for all."""

import pytest
from report.browser import COMMAND, Browser
from report.study_files import ATTACK, STUDY_COUNT, change_line, write_system
from report.synthetic_run import write_run

from fires_exp.report.human_eval.__main__ import main


@pytest.fixture
def run_folder(tmp_path):
    """As a whole run leaves it."""
    return write_run(tmp_path / "run")


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Skips where there is no Chromium."""
    if COMMAND is None:
        pytest.skip("no Chromium here")
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def study(tmp_path_factory, cache):
    """The folder of a study whose one system answers in markup."""
    folder = tmp_path_factory.mktemp("study")
    runs = [write_system(folder / place, name, cache) for place, name in (("1", "gemstone"), ("2", "limestone"))]
    for line in range(35):
        change_line(runs[0] / "predictions" / "grpo.jsonl", line, response=ATTACK, thought=ATTACK)
    assert main(["make", *map(str, runs), "--out", str(folder / "out"), "--count", str(STUDY_COUNT), "--seed", "42"]) == 0
    return folder / "out"
