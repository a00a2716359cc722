"""Fixtures that several folders share: the tiny random backbone, and the real data if it is there."""

from __future__ import annotations

import logging
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch
from hypothesis import HealthCheck, settings
from making import FLEXIBLE, TARGETS

from fires_exp.config.model import BackboneConfig, LoraConfig
from fires_exp.policy.backbone import build_policy
from fires_exp.prompts.processor import PromptEncoder

# the gate tries the same inputs each time, about a minute of them; `make fuzz` tries new ones for as long as it takes
settings.register_profile("gate", max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "fuzz", max_examples=10_000, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("gate")

torch.set_num_threads(1)  # the tiny model is faster so, and tests may run beside other work

# folders and files whose tests start processes, train models or drive a browser: `make test-fast` leaves them out
SLOW = (
    "benchmarks", "chat", "cli", "config/test_experiments.py", "distributed/test_collectives.py", "export", "fuzz", "human_eval",
    "paper/test_report.py", "pipeline", "report/test_pages_in_a_browser.py", "storage/test_code_fingerprint.py",
    "storage/test_pretrained.py", "test_experiments_folder.py", "test_security.py", "training/loggers",
    "training/test_checkpoints.py",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    """Mark the tests of `SLOW`."""
    for item in items:
        path = item.path.relative_to(Path(__file__).parent).as_posix()
        if path.startswith(SLOW):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def restored_logger():
    """A command that runs inside a test sends the project's log to the terminal; the next test finds the logger as it was."""
    logger = logging.getLogger("fires_exp")
    level, propagate, handlers = logger.level, logger.propagate, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.propagate = propagate
    logger.handlers[:] = handlers


@pytest.fixture(scope="session")
def cache():
    """The cache that runs use too: backbones are built once."""
    return Path(os.environ.get("FIRES_EXP_CACHE", Path.home() / ".cache" / "fires_exp"))


@pytest.fixture(scope="session")
def tiny_config():
    return BackboneConfig(name="tiny", source="tiny", path=None, revision=None, dtype="float32", attention="sdpa")


@pytest.fixture
def tiny(tiny_config, cache):
    """A fresh tiny policy."""
    return build_policy(tiny_config, cache, torch.device("cpu"))


@pytest.fixture
def lora():
    return LoraConfig(rank=4, alpha=8, dropout=0.0, target_modules=TARGETS, train_vision=False)


@pytest.fixture
def encoder(tiny):
    return PromptEncoder(tiny.processor, FLEXIBLE, max_tokens=1000)


@pytest.fixture(scope="session")
def real_data():
    """The folder with research corpora beside the project, or FIRES_EXP_DATA; the test is skipped where it is absent."""
    folder = Path(os.environ.get("FIRES_EXP_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real corpora are not at {folder}; set FIRES_EXP_DATA to their folder")
    return folder


@pytest.fixture
def run_folder(tmp_path):
    """As a whole run leaves it."""
    from report.synthetic_run import write_run

    return write_run(tmp_path / "run")


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Skips where there is no Chromium."""
    from browser import COMMAND, Browser

    if COMMAND is None:
        pytest.skip("no Chromium here")
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def study(tmp_path_factory, cache):
    """The folder of a study whose one system answers in markup."""
    from human_eval.study_files import ATTACK, STUDY_COUNT, change_line, write_system

    from fires_exp.cli.human_eval import main

    folder = tmp_path_factory.mktemp("study")
    runs = [write_system(folder / place, name, cache) for place, name in (("1", "gemstone"), ("2", "limestone"))]
    for line in range(35):
        change_line(runs[0] / "predictions" / "grpo.jsonl", line, response=ATTACK, thought=ATTACK)
    assert main(["make", *map(str, runs), "--out", str(folder / "out"), "--count", str(STUDY_COUNT), "--seed", "42"]) == 0
    return folder / "out"
