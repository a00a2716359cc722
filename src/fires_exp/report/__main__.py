"""`python -m fires_exp.report RUN_FOLDER` writes the page of a run again."""

from __future__ import annotations

import sys
from pathlib import Path

from fires_exp.errors import FiresError
from fires_exp.report.page import write_page

USER_ERROR = 2


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m fires_exp.report RUN_FOLDER", file=sys.stderr)
        return USER_ERROR
    try:
        print(write_page(Path(arguments[0])))
    except FiresError as error:
        print(f"fires_exp: {error}", file=sys.stderr)
        return USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
