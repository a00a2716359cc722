"""The checks of what the project depends on."""

import json
import re
from importlib.metadata import PackageNotFoundError

import audit
import licenses
import pytest


@pytest.mark.parametrize(
    "license", ["MIT", "Apache-2.0 AND MIT", "Apache-2.0 WITH LLVM-exception OR BSD License", "Apache Software License"]
)
def test_open_licenses_are_known(license):
    assert licenses.is_open(license)


@pytest.mark.parametrize(
    "license", ["", "Other/Proprietary License", "MIT AND LicenseRef-NVIDIA-Proprietary", "GPL-3.0-only", "UNKNOWN"]
)
def test_anything_else_is_refused(license):
    (line,) = licenses.problems(["thing"], lambda package: license)
    assert line.startswith(f"thing: {license or 'no license'} is not known to be open")


def test_a_package_that_is_not_installed_has_no_known_license():
    def missing(package):
        raise PackageNotFoundError(package)

    assert licenses.problems(["thing"], missing) == ["thing: not installed here, so its license is not known; run make setup"]


def test_every_pinned_package_is_open_source():
    packages = licenses.pinned(licenses.LOCK)
    assert len(packages) > 100
    assert licenses.problems(packages, licenses.license_of) == []


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
    assert audit.verdict(report(SOUND, FLAWED)) == (1, "c 2.0: PYSEC-1, fixed in 2.1\nc 2.0: PYSEC-2, fixed in no version yet")


def test_without_a_vulnerability_the_number_of_checked_packages_is_printed():
    assert audit.verdict(report(SOUND, UNKNOWN)) == (0, "audit: 1 of 2 packages checked, no known vulnerability")


@pytest.mark.parametrize("output", ["", "Traceback", "[]", report(UNKNOWN)])
def test_without_a_vulnerability_database_the_check_is_skipped(output):
    status, line = audit.verdict(output)
    assert status == 0
    assert line.startswith("audit: skipped")


def test_every_test_in_the_table_of_faults_exists():
    root = licenses.LOCK.parent
    named = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", (root / "docs" / "reliability.md").read_text(encoding="utf-8"))
    assert len(named) > 50
    assert [f"{file}::{test}" for file, test in named if f"def {test}(" not in (root / file).read_text(encoding="utf-8")] == []
