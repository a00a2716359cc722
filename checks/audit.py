"""`python checks/audit.py`: known vulnerabilities of all pinned packages, by pip-audit; skipped with a line without a network.

Exit status 1 where there is one. A package index that does not tell of vulnerabilities counts as nobody.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).parents[1] / "requirements.lock"
SECONDS = 60


def verdict(report: str) -> tuple[int, str]:
    """Exit status and what to say, from pip-audit's JSON; an empty report is one that could not be made."""
    try:
        packages = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        packages = []
    asked = [package for package in packages if "vulns" in package]
    if not asked:
        return 0, "audit: skipped, nobody who knows of vulnerabilities can be reached from here"
    lines = [
        f"{package['name']} {package['version']}: {flaw['id']}, mended in {', '.join(flaw['fix_versions']) or 'no version yet'}"
        for package in asked
        for flaw in package["vulns"]
    ]
    if lines:
        return 1, "\n".join(lines)
    return 0, f"audit: {len(asked)} of {len(packages)} packages asked about, no known vulnerability"


def main() -> int:
    options = ["--requirement", str(LOCK), "--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip_audit", *options], capture_output=True, text=True, check=False, timeout=SECONDS
        )
        status, said = verdict(done.stdout)
    except subprocess.TimeoutExpired:
        status, said = verdict("")
    print(said)
    return status


if __name__ == "__main__":
    sys.exit(main())
