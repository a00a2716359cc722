"""`python checks/audit.py`: known vulnerabilities of all pinned packages, by pip-audit. Exit status 1 where there is one.

Without a network the check is skipped with a line. A package index without vulnerability data counts as no network.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).parents[1] / "requirements.lock"
SECONDS = 60


def verdict(report: str) -> tuple[int, str]:
    """The exit status and the text to print, from pip-audit's JSON; empty where pip-audit failed."""
    try:
        packages = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        packages = []
    audited = [package for package in packages if "vulns" in package]
    if not audited:
        return 0, "audit: skipped, no vulnerability database can be reached from here"
    lines = [
        f"{package['name']} {package['version']}: {flaw['id']}, fixed in {', '.join(flaw['fix_versions']) or 'no version yet'}"
        for package in audited
        for flaw in package["vulns"]
    ]
    if lines:
        return 1, "\n".join(lines)
    return 0, f"audit: {len(audited)} of {len(packages)} packages checked, no known vulnerability"


def main() -> int:
    options = ["--requirement", str(LOCK), "--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip_audit", *options], capture_output=True, text=True, check=False, timeout=SECONDS
        )
        status, text = verdict(done.stdout)
    except subprocess.TimeoutExpired:
        status, text = verdict("")
    print(text)
    return status


if __name__ == "__main__":
    sys.exit(main())
