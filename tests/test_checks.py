"""The checks of what the project depends on."""

import json
import re
from importlib.metadata import PackageNotFoundError

import audit
import licences
import pytest


@pytest.mark.parametrize(
    "licence", ["MIT", "Apache-2.0 AND MIT", "Apache-2.0 WITH LLVM-exception OR BSD License", "Apache Software License"]
)
def test_open_licences_are_known(licence):
    assert licences.is_open(licence)


@pytest.mark.parametrize(
    "licence", ["", "Other/Proprietary License", "MIT AND LicenseRef-NVIDIA-Proprietary", "GPL-3.0-only", "UNKNOWN"]
)
def test_anything_else_is_refused(licence):
    (line,) = licences.problems(["thing"], lambda package: licence)
    assert line.startswith(f"thing: {licence or 'no licence'} is not known to be open")


def test_a_package_that_is_not_there_has_no_known_licence():
    def missing(package):
        raise PackageNotFoundError(package)

    assert licences.problems(["thing"], missing) == ["thing: not installed here, so its licence is not known; run make setup"]


def test_every_pinned_package_is_open_source():
    packages = licences.pinned(licences.LOCK)
    assert len(packages) > 100
    assert licences.problems(packages, licences.licence_of) == []


def report(*packages):
    return json.dumps({"dependencies": packages, "fixes": []})


SOUND = {"name": "a", "version": "1.0", "vulns": []}
UNKNOWN = {"name": "b", "skip_reason": "not found"}
FLAWED = {
    "name": "c",
    "version": "2.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}, {"id": "PYSEC-2", "fix_versions": []}],
}


def test_a_vulnerability_is_a_line_and_a_failure():
    assert audit.verdict(report(SOUND, FLAWED)) == (1, "c 2.0: PYSEC-1, mended in 2.1\nc 2.0: PYSEC-2, mended in no version yet")


def test_no_vulnerability_says_how_many_were_asked_about():
    assert audit.verdict(report(SOUND, UNKNOWN)) == (0, "audit: 1 of 2 packages asked about, no known vulnerability")


@pytest.mark.parametrize("said", ["", "Traceback", "[]", report(UNKNOWN)])
def test_where_nobody_can_be_asked_it_says_so(said):
    status, line = audit.verdict(said)
    assert status == 0
    assert line.startswith("audit: skipped")


def test_every_test_that_the_table_of_faults_names_is_there():
    root = licences.LOCK.parent
    named = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", (root / "docs" / "reliability.md").read_text(encoding="utf-8"))
    assert len(named) > 50
    assert [f"{file}::{test}" for file, test in named if f"def {test}(" not in (root / file).read_text(encoding="utf-8")] == []
