"""Keys and passwords: told by their form, refused in a configuration, taken out of whatever is written down."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from fires_exp.errors import ConfigError

_NAMES = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD)$")
_SHORTEST = 8  # a shorter value of such a variable ("none", "local") is no secret and stands in many texts
# keys of services as they hand them out, and what stands before the @ of an address
_KEY = re.compile(r"\b(?:sk-|sk_|hf_|ghp_|github_pat_|xox[abp]-)[\w-]{12,}|\bAKIA[0-9A-Z]{16}\b|\bAIza[\w-]{30,}")
_IN_ADDRESS = re.compile(r"(?<=://)[^\s/?#@'\"]+(?=@)")
_SHOWN = "***"


def without_secrets(text: str) -> str:
    """The text with every secret as ***: values of the environment's keys, tokens and passwords, and what looks like one.

    >>> without_secrets("cannot reach https://ann:pass@host/v1 with sk-0123456789abcdef")
    'cannot reach https://***@host/v1 with ***'
    """
    for value in _values():
        text = text.replace(value, _SHOWN)
    return _IN_ADDRESS.sub(_SHOWN, _KEY.sub(_SHOWN, text))


def refuse_secrets(settings: Iterable[tuple[str, str]]) -> None:
    """Raises `ConfigError` for the first (key, value) that holds a secret: a configuration is written into every run folder.
    The message names the key alone."""
    for key, value in settings:
        if without_secrets(value) != value:
            raise ConfigError(
                f"{without_secrets(key)} holds a key or a password, and a configuration is written into the run folder: export "
                "it as an environment variable, and write the variable's name into api_key_env"
            )


def _values() -> list[str]:
    """Longest first, so that a secret within another leaves nothing of it."""
    values = {value.strip() for name, value in os.environ.items() if _NAMES.search(name.upper())}
    return sorted((value for value in values if len(value) >= _SHORTEST), key=len, reverse=True)
