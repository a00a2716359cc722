"""The synthetic run folder, fresh for each test."""

import pytest
from report.synthetic_run import write_run


@pytest.fixture
def run_folder(tmp_path):
    """As a whole run leaves it."""
    return write_run(tmp_path / "run")
