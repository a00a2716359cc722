"""`python checks/licenses.py`: the licenses of all pinned packages, and exit status 1 where one is not known to be open.

A package says its license in one of three places of its metadata, in words of its own; `ALIASES` has those that occur. `--list`
prints the whole list.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

LOCK = Path(__file__).parents[1] / "requirements.lock"
# approved by the Open Source Initiative, or as free as those: SPDX identifiers
OPEN = {
    *("Apache-2.0", "LLVM-exception", "MIT", "MIT-CMU", "BSD-2-Clause", "BSD-3-Clause", "0BSD", "ISC", "Zlib", "CC0-1.0"),
    *("PSF-2.0", "CNRI-Python", "MPL-2.0", "BSL-1.0", "AFL-3.0"),
}
ALIASES = {
    "Apache Software License": "Apache-2.0",
    "Apache": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache Software License 2.0": "Apache-2.0",
    "Academic Free License (AFL)": "AFL-3.0",
    "MIT License": "MIT",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}


def license_of(package: str) -> str:
    """What the installed package says of itself: its SPDX expression, else its classifiers, else the first line of its text;
    empty where it says nothing. Raises `PackageNotFoundError`."""
    facts = metadata.metadata(package)
    classifiers = [
        line.rpartition("::")[2].strip() for line in facts.get_all("Classifier") or () if line.startswith("License ::")
    ]
    text = (facts["License"] or "").strip() if "License" in facts else ""
    return facts["License-Expression"] if "License-Expression" in facts else " OR ".join(classifiers) or text.partition("\n")[0]


def is_open(license: str) -> bool:
    """Whether every license that an expression names is an open one."""
    names = re.split(r" (?:AND|OR|WITH) ", license)
    return all(ALIASES.get(name, name.strip("()")) in OPEN for name in names)


def pinned(lock: Path) -> list[str]:
    return [line.partition("==")[0] for line in lock.read_text(encoding="utf-8").splitlines() if "==" in line]


def problems(packages: list[str], license: Callable[[str], str]) -> list[str]:
    """A line for each package that is not known to be open."""
    found = []
    for package in packages:
        try:
            said = license(package)
        except metadata.PackageNotFoundError:
            found.append(f"{package}: not installed here, so its license is not known; run make setup")
            continue
        if not is_open(said):
            found.append(f"{package}: {said or 'no license'} is not known to be open; look at it, then name it in {__file__}")
    return found


def main(arguments: list[str]) -> int:
    packages = pinned(LOCK)
    if arguments == ["--list"]:
        print("\n".join(f"{package}: {license_of(package)}" for package in packages))
        return 0
    wrong = problems(packages, license_of)
    print("\n".join(wrong) or f"licenses: all {len(packages)} packages are open source")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
