"""JSON that was written elsewhere, by hand, by a service or by another program: read so that nothing in it surprises later."""

from __future__ import annotations

import json
import re
from typing import Any

_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
_MAY_HOLD_ONE = re.compile(r"\\ud[89a-f]", re.IGNORECASE)


def parse_json(text: str) -> Any:
    """The value. Raises `ValueError`, in one line, for what is no JSON, for what is nested too deep or a number too long to read,
    and for half a character (`"\\ud83d"` without its other half), which could never be written down again."""
    try:
        value = json.loads(text)
        if _MAY_HOLD_ONE.search(text) and _HALF_CHARACTER.search(json.dumps(value, ensure_ascii=False)):
            raise ValueError("half a character, a \\ud… without its other half")
    except RecursionError:
        raise ValueError("nested too deep") from None
    return value


def whole_characters(text: str) -> str:
    """The text with a replacement sign for each half of a character, as a service leaves one that cuts an emoji in two."""
    return _HALF_CHARACTER.sub("\N{REPLACEMENT CHARACTER}", text)
