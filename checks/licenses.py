"""`python checks/licenses.py`: the licenses of all pinned packages. Exit status 1 where one is not known to be open.

Packages state their license in one of three fields of their metadata, in their own words; `ALIASES` lists the words in use.
`--list` prints the licenses of all packages.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

LOCK = Path(__file__).parents[1] / "requirements.lock"
# SPDX identifiers of licenses approved by the Open Source Initiative, or equally free
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
    """The license in the installed package's metadata: its SPDX expression, else its classifiers, else the first line of its
    license text; empty without any. Raises `PackageNotFoundError`."""
    facts = metadata.metadata(package)
    classifiers = [
        line.rpartition("::")[2].strip() for line in facts.get_all("Classifier") or () if line.startswith("License ::")
    ]
    text = (facts["License"] or "").strip() if "License" in facts else ""
    return facts["License-Expression"] if "License-Expression" in facts else " OR ".join(classifiers) or text.partition("\n")[0]


def is_open(license: str) -> bool:
    """Whether every license of an SPDX expression is open."""
    names = re.split(r" (?:AND|OR|WITH) ", license)
    return all(ALIASES.get(name, name.strip("()")) in OPEN for name in names)


def pinned(lock: Path) -> list[str]:
    return [line.partition("==")[0] for line in lock.read_text(encoding="utf-8").splitlines() if "==" in line]


def problems(packages: list[str], license: Callable[[str], str]) -> list[str]:
    """A line for each package that is not known to be open."""
    lines = []
    for package in packages:
        try:
            name = license(package)
        except metadata.PackageNotFoundError:
            lines.append(f"{package}: not installed here, so its license is not known; run make setup")
            continue
        if not is_open(name):
            lines.append(f"{package}: {name or 'no license'} is not known to be open; check it, then add it to {__file__}")
    return lines


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
