"""`python -m fires_exp`, the same as the command `fires-exp`."""

from __future__ import annotations

import sys

from fires_exp.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
