"""Parsing JSON from outside: written by hand, by a service or by another program."""

from __future__ import annotations

import json
import re
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(r"\\ud[89a-f]", re.IGNORECASE)


def parse_json(text: str) -> Any:
    r"""The parsed value.

    Raises `ValueError` with a one-line message for text that is not JSON, for values nested too deeply, for integers with too
    many digits, and for an unpaired surrogate (`"\ud83d"` without its second half), which could not be encoded as UTF-8 later.
    """
    try:
        value = json.loads(text)
        if _ESCAPED_SURROGATE.search(text) and _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
            raise ValueError("an unpaired surrogate: \\ud… without its second half")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def replace_surrogates(text: str) -> str:
    """The text with U+FFFD for each unpaired surrogate, as a service leaves one when it cuts an emoji in two."""
    return _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
